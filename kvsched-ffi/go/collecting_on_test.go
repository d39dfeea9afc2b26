//go:build kvsched_gc || race

package kvsched_test

// Pins that are dropped by a collection, and the race detector, allocate.
const collecting = true
