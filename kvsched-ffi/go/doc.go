// Package kvsched decides which endpoint of a fleet of LLM engines should serve a prompt, given where
// its KV cache already is and what every endpoint is doing. It links the Rust library of that name.
//
// Before the first build, build the library:
//
//	./build.sh
//
// A Hasher reproduces the engines' block hashes. A Scheduler takes in their cache events
// (Scheduler.Ingest) and chooses an endpoint a request (Scheduler.Route): one call of C, which
// allocates nothing once warm. All methods are safe for concurrent use. Memory that is passed in is
// not kept.
//
// Not for you, if your engines do not reuse prefixes: take any least-loaded balancer then.
package kvsched
