//go:build kvsched_gc

package kvsched

import "runtime"

// collect makes memory that is used after it is let go show itself: slow, for tests.
func collect() { runtime.GC() }
