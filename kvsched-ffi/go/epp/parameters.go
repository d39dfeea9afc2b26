package epp

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"

	"kvsched.local/kvsched"
)

// Type is the plugin's, in configurations.
const Type = "kvsched-scorer"

// parameters are the plugin's section of the configuration.
type parameters struct {
	// EngineVersion is vLLM's, as "0.33.0": blocks are then named as the engines name them. Empty
	// for engines whose hashes cannot be computed: blocks are named by the tokens in their events.
	EngineVersion string `json:"engineVersion"`
	// HashAlgorithm is the engines' --prefix-caching-hash-algo; empty for sha256.
	HashAlgorithm string `json:"hashAlgorithm"`
	// HashSeed is the engines' PYTHONHASHSEED, where it is set.
	HashSeed *string `json:"hashSeed"`
	// BlockSizeTokens is the engines' --block-size; 0 for 16.
	BlockSizeTokens int `json:"blockSizeTokens"`
	// Preset makes the plugin score as a policy of kvsched's, loads included, in place of the share
	// of the prompt that is cached.
	Preset string `json:"preset"`
	// EventsPort is that of the engines' event sockets; 0 for 5557. Data-parallel ranks count on
	// from it.
	EventsPort int `json:"eventsPort"`
	// ReplayPort is that of their replay sockets; 0 where they have none.
	ReplayPort int `json:"replayPort"`
	// EventsTopic is what topics begin with; empty for all.
	EventsTopic string `json:"eventsTopic"`
	// Tokenize has prompts that nobody has tokenized tokenized by the first candidate.
	Tokenize bool `json:"tokenize"`
	// LoRA are the adapters by the name that requests ask for.
	LoRA map[string]adapter `json:"lora"`
}

// adapter is a LoRA adapter as the engines were given it.
type adapter struct {
	Path string `json:"path"`
	ID   int64  `json:"id"`
}

func parse(raw json.RawMessage) (parameters, error) {
	var p parameters
	if len(raw) > 0 {
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&p); err != nil {
			return p, fmt.Errorf("parameters of %s: %w", Type, err)
		}
	}
	for name, port := range map[string]int{"eventsPort": p.EventsPort, "replayPort": p.ReplayPort} {
		if port < 0 || port > 65535 {
			return p, fmt.Errorf("parameters of %s: %s is %d, not a port", Type, name, port)
		}
	}
	if p.EventsPort == 0 {
		p.EventsPort = 5557
	}
	if p.BlockSizeTokens == 0 {
		p.BlockSizeTokens = 16
	}
	return p, nil
}

// hasher names blocks as the parameters say.
func (p *parameters) hasher() (*kvsched.Hasher, error) {
	if p.EngineVersion != "" {
		return kvsched.NewVLLMHasher(kvsched.VLLM{
			Version: p.EngineVersion, Algorithm: p.HashAlgorithm, Seed: p.HashSeed, BlockSize: p.BlockSizeTokens,
		})
	}
	secret := make([]byte, 32)
	rand.Read(secret) // never fails
	return kvsched.NewContentHasher("", secret, p.BlockSizeTokens)
}
