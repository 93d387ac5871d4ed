// Package history runs a workload process against a Holdfast process that is killed, and judges the workload's
// history, alone and against what is left.
package history
