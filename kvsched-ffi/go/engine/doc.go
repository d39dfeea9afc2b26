// Package engine is what a gateway has to say to a vLLM engine, besides requests: it follows the
// engine's events over ZMQ into a kvsched.Scheduler (Feed), reads its load figures (Client.Load) and
// asks it for the tokens of a text or chat (Client.Tokenize).
//
// The core package has no sockets and no dependencies; this one has one, a ZMQ client in pure Go.
package engine
