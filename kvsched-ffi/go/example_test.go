package kvsched_test

import (
	"fmt"

	"kvsched.local/kvsched"
)

// Two engines; the second has served the prompt before and says so.
func ExampleScheduler_Route() {
	hasher, err := kvsched.NewVLLMHasher(kvsched.VLLM{Version: "0.33.0"})
	if err != nil {
		panic(err)
	}
	defer hasher.Close()
	scheduler, err := kvsched.NewScheduler(hasher, kvsched.Options{})
	if err != nil {
		panic(err)
	}
	defer scheduler.Close()
	podA, _ := scheduler.AddEndpoint("pod-a")
	podB, _ := scheduler.AddEndpoint("pod-b")

	prompt := kvsched.Prompt{Tokens: count(100)}
	// A gateway passes on what the engine's socket delivers; here the message is written by hand.
	hashes, _ := hasher.Hash(prompt, nil)
	heard, err := scheduler.Ingest(podB, 0, storedMessage(hashes, prompt.Tokens[:96], 16), 0)
	if err != nil {
		panic(err)
	}
	fmt.Println(heard.Stored, "blocks stored")

	decision, why, err := scheduler.RouteExplained(&kvsched.Request{
		Prompt:     prompt,
		Candidates: []kvsched.Candidate{{Endpoint: podA}, {Endpoint: podB}},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(decision.Endpoint == podB, decision.MatchedBlocks, "of", decision.PromptBlocks)
	fmt.Print(why)
	// Output:
	// 6 blocks stored
	// true 6 of 6
	// pod-b chosen by max-score-picker with 0.580, 6 of 6 blocks cached, 0.002 ahead of pod-a
	//   pod-b 0.580, 6 blocks: cost-scorer 0.580 × 1
	//   pod-a 0.578, 0 blocks: cost-scorer 0.578 × 1
	//   seed 0000000000000001
}

// Engines that announce nothing: the scheduler learns from what it decides.
func ExampleOptions() {
	hasher, err := kvsched.NewContentHasher("my-model", []byte("sixteen or more random bytes"), 16)
	if err != nil {
		panic(err)
	}
	defer hasher.Close()
	scheduler, err := kvsched.NewScheduler(hasher, kvsched.Options{Preset: "llm-d", HistoryBlocks: 4096})
	if err != nil {
		panic(err)
	}
	defer scheduler.Close()
	pod, _ := scheduler.AddEndpoint("pod-a")
	request := kvsched.Request{
		Prompt:     kvsched.Prompt{Tokens: count(100)},
		Candidates: []kvsched.Candidate{{Endpoint: pod}},
		Record:     true, // it will be sent to whom the call chooses
	}
	for range 2 {
		decision, err := scheduler.Route(&request)
		fmt.Println(decision.MatchedBlocks, err)
	}
	// Output:
	// 0 <nil>
	// 6 <nil>
}

// storedMessage is what vLLM publishes when it has stored blocks of a prompt, in msgpack: the time,
// one BlockStored event, the data-parallel rank.
func storedMessage(hashes []uint64, tokens []uint32, blockSize int) []byte {
	u16 := func(kind byte, n int) []byte { return []byte{kind, byte(n >> 8), byte(n)} }
	text := func(s string) []byte { return append([]byte{0xa0 | byte(len(s))}, s...) }
	m := []byte{0x93, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0, 0x91, 0x96}
	m = append(m, text("BlockStored")...)
	m = append(m, u16(0xdc, len(hashes))...)
	for _, h := range hashes {
		m = append(m, 0xcf, byte(h>>56), byte(h>>48), byte(h>>40), byte(h>>32), byte(h>>24), byte(h>>16), byte(h>>8), byte(h))
	}
	m = append(m, 0xc0) // no parent
	m = append(m, u16(0xdc, len(tokens))...)
	for _, t := range tokens {
		m = append(m, 0xce, byte(t>>24), byte(t>>16), byte(t>>8), byte(t))
	}
	m = append(m, u16(0xcd, blockSize)...)
	return append(m, 0xc0, 0xc0) // no adapter; no rank
}
