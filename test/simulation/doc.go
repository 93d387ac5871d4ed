// Package simulation runs a whole Holdfast, its customers and the outside parties in one process, on a
// network and a clock that it makes itself: testing/synctest gives it virtual time, and one number, the
// seed, the workload and the faults. In the end the black-box checker of package check judges.
package simulation
