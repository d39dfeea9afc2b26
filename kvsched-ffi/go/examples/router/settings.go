package main

import (
	"crypto/rand"

	"kvsched.local/kvsched"
)

// settings say what is routed to, and how.
type settings struct {
	Engines []address
	Preset  string
	Topic   string
	// BlockSize is the engines', in tokens.
	BlockSize int
	// LoRA are the adapters, by the name that requests give as their model.
	LoRA map[string]kvsched.LoRA
}

// address is where an engine's HTTP server, event socket and replay socket are; the last may be missing.
type address struct{ HTTP, Events, Replay string }

// hasherOf names blocks as the engines do, or by their tokens where no version is given.
func hasherOf(version, algorithm, seed string, block int) (*kvsched.Hasher, error) {
	if version == "" {
		secret := make([]byte, 32)
		rand.Read(secret) // never fails
		return kvsched.NewContentHasher("", secret, block)
	}
	engine := kvsched.VLLM{Version: version, Algorithm: algorithm, BlockSize: block}
	if seed != "" {
		engine.Seed = &seed
	}
	return kvsched.NewVLLMHasher(engine)
}
