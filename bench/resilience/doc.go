// Package bench measures Holdfast's package resilience beside the libraries that it was written instead
// of, and runs the table of field bugs against all of them. There is nothing but tests here, and they are
// a module of their own, so that the platform does not depend on those libraries.
package bench
