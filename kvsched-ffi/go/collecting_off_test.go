//go:build !kvsched_gc && !race

package kvsched_test

const collecting = false
