// The example of kvsched-ffi/README.md, word for word.
package main

import (
	"fmt"
	"log"

	"kvsched.local/kvsched"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	// Engines of vLLM 0.33 with default settings: sha256, no seed, 16 tokens a block.
	hasher, err := kvsched.NewVLLMHasher(kvsched.VLLM{Version: "0.33.0"})
	if err != nil {
		return err
	}
	defer hasher.Close()
	scheduler, err := kvsched.NewScheduler(hasher, kvsched.Options{})
	if err != nil {
		return err
	}
	defer scheduler.Close()
	podA, err := scheduler.AddEndpoint("pod-a")
	if err != nil {
		return err
	}
	podB, err := scheduler.AddEndpoint("pod-b")
	if err != nil {
		return err
	}
	// A message of pod-b's event socket: heard, err := scheduler.Ingest(podB, sequence, payload, now).
	// If heard.NeedsReplay, ask the engine's replay socket from heard.ReplayFrom on, and hand its answers
	// to Replayed. Package kvsched.local/kvsched/engine does all that.

	for range 2 {
		decision, err := scheduler.Route(&kvsched.Request{
			Prompt: kvsched.Prompt{Tokens: make([]uint32, 100)},
			Candidates: []kvsched.Candidate{
				{Endpoint: podA, WaitingRequests: 3}, // from the engines' metrics
				{Endpoint: podB},
			},
			Record: true, // it will be sent there: expect its blocks there until events tell
		})
		if err != nil {
			return err
		}
		fmt.Printf("endpoint %d, %d of %d blocks cached\n", decision.Endpoint, decision.MatchedBlocks, decision.PromptBlocks)
	}
	return nil
}
