// Package points kills a whole Holdfast at each of its effects. A scenario is run once while the process
// counts what it does to the world: commits of its databases, exchanges with the bus, requests to the outside
// parties and answers to its clients. Then the scenario is run again for each of them, and the process ends
// itself before it, halfway through it, or after it. It is started again on what it has left, the client
// repeats what is in doubt, and when all is at rest the invariants and the scenario's end state are checked.
// Between two effects nothing changes that outlives the process, so this stands for a kill at any instruction.
package points
