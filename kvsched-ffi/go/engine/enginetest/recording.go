package enginetest

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"kvsched.local/kvsched"
)

// Recording is a run of a real vLLM engine: what it was asked, in order, and what it announced.
type Recording struct {
	Name     string `json:"name"`
	Dist     string `json:"vllm_dist"`
	Settings struct {
		Algorithm string  `json:"algo"`
		Seed      *string `json:"seed"`
		BlockSize int     `json:"block"`
	} `json:"settings"`
	Steps    []Step         `json:"requests"`
	Messages []Announcement `json:"messages"`
}

// Step is a request that was served, or another thing that was done to the engine.
type Step struct {
	Kind      string   `json:"kind"`
	Label     string   `json:"label"`
	Tokens    []uint32 `json:"prompt_token_ids"`
	CacheSalt *string  `json:"cache_salt"`
	LoRAName  *string  `json:"lora_name"`
	LoRAPath  *string  `json:"lora_path"`
	LoRAID    *int64   `json:"lora_int_id"`
	Embeds    any      `json:"prompt_embeds"`
	Cached    int      `json:"num_cached_tokens"`
}

// Announcement is a message of the engine's event socket, and the step during which it came.
type Announcement struct {
	During string   `json:"during"`
	Hex    []string `json:"frames"`
}

// Frames are the topic, the sequence number and the payload, as they were sent.
func (a *Announcement) Frames() [][]byte {
	frames := make([][]byte, len(a.Hex))
	for i, digits := range a.Hex {
		frames[i], _ = hex.DecodeString(digits) // Read has seen that it can be
	}
	return frames
}

// Read is the recording of this name among those of the repository.
func Read(name string) (*Recording, error) {
	_, here, _, _ := runtime.Caller(0)
	file := filepath.Join(filepath.Dir(here), "../../../../testdata/vectors/engine_capture.json")
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all struct {
		Captures []Recording `json:"captures"`
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	for i := range all.Captures {
		r := &all.Captures[i]
		if r.Name != name {
			continue
		}
		for _, a := range r.Messages {
			for _, digits := range a.Hex {
				if _, err := hex.DecodeString(digits); err != nil || len(a.Hex) != 3 {
					return nil, fmt.Errorf("%s: a message is not three frames in hex: %w", file, err)
				}
			}
		}
		return r, nil
	}
	return nil, fmt.Errorf("%s: no recording is called %q", file, name)
}

// Engine says how the recorded engine names its blocks.
func (r *Recording) Engine() kvsched.VLLM {
	words := strings.Fields(r.Dist)
	return kvsched.VLLM{
		Version: words[len(words)-1], Algorithm: r.Settings.Algorithm,
		Seed: r.Settings.Seed, BlockSize: r.Settings.BlockSize,
	}
}

// Step is the step of this label, or nil.
func (r *Recording) Step(label string) *Step {
	for i := range r.Steps {
		if r.Steps[i].Label == label {
			return &r.Steps[i]
		}
	}
	return nil
}

// Prompt is the step's.
func (s *Step) Prompt() kvsched.Prompt {
	p := kvsched.Prompt{Tokens: s.Tokens}
	if s.CacheSalt != nil {
		p.CacheSalt = *s.CacheSalt
	}
	if s.LoRAName != nil {
		p.LoRA = &kvsched.LoRA{Name: *s.LoRAName, Path: *s.LoRAPath, ID: *s.LoRAID}
	}
	return p
}

// Alone reports whether the engine served nothing else meanwhile, so that what it had cached can be
// told from what it had announced before.
func (s *Step) Alone() bool { return s.Kind == "request" && !strings.HasSuffix(s.Label, "]") }
