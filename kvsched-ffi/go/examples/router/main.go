// Command router is a small OpenAI-compatible HTTP router in front of vLLM engines, without Kubernetes.
// It follows the engines' events, polls their metrics, and sends every request where its prompt's KV
// cache already is, unless that endpoint is too busy.
//
//	router -vllm 0.33.0 -seed 0 \
//	    -engine http://127.0.0.1:8000,tcp://127.0.0.1:5557,tcp://127.0.0.1:5558 \
//	    -engine http://127.0.0.1:8001,tcp://127.0.0.1:5657,tcp://127.0.0.1:5658
//
// for engines started as
//
//	PYTHONHASHSEED=0 vllm serve MODEL --port 8000 --kv-events-config \
//	    '{"enable_kv_cache_events": true, "publisher": "zmq", "endpoint": "tcp://*:5557", "replay_endpoint": "tcp://*:5558"}'
//
// A prompt of token ids is routed as it is; a text or chat is tokenized by an engine first (/tokenize), which
// has the tokenizer and the chat template: a round trip of about a millisecond. Where that fails, and for
// what follows an image, only the load counts. Answers say in the headers X-Kvsched-Endpoint and
// X-Kvsched-Cached-Tokens where they come from and what was expected to be cached there.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"kvsched.local/kvsched"
)

// listed is a flag that may be given several times.
type listed []string

func (l *listed) String() string { return strings.Join(*l, " ") }

// Set adds a value.
func (l *listed) Set(value string) error {
	*l = append(*l, value)
	return nil
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	var engines, adapters listed
	listen := flag.String("listen", "127.0.0.1:8080", "address to serve on")
	version := flag.String("vllm", "", "the engines' version, to name blocks as they do; by default blocks are named by their tokens, which works with any engine")
	algorithm := flag.String("algorithm", "sha256", "the engines' --prefix-caching-hash-algo")
	seed := flag.String("seed", "", "the engines' PYTHONHASHSEED, if it is set")
	block := flag.Int("block-size", 16, "the engines' --block-size")
	preset := flag.String("preset", "", "a policy other than the default, as llm-d or dynamo")
	topic := flag.String("topic", "", "what the events' topics begin with")
	flag.Var(&engines, "engine", "URL,EVENTS,REPLAY of an engine; REPLAY may be left out")
	flag.Var(&adapters, "lora", "NAME=ID:PATH of a LoRA adapter, as the engines were given it")
	flag.Parse()
	s := settings{Preset: *preset, Topic: *topic, BlockSize: *block, LoRA: map[string]kvsched.LoRA{}}
	for _, engine := range engines {
		parts := strings.Split(engine, ",")
		if len(parts) < 2 || len(parts) > 3 {
			return fmt.Errorf("-engine %s: not URL,EVENTS or URL,EVENTS,REPLAY", engine)
		}
		s.Engines = append(s.Engines, address{parts[0], parts[1], strings.Join(parts[2:], "")})
	}
	for _, adapter := range adapters {
		name, rest, is := strings.Cut(adapter, "=")
		number, path, has := strings.Cut(rest, ":")
		id, err := strconv.ParseInt(number, 10, 64)
		if !is || !has || err != nil {
			return fmt.Errorf("-lora %s: not NAME=ID:PATH", adapter)
		}
		s.LoRA[name] = kvsched.LoRA{Name: name, Path: path, ID: id}
	}
	hasher, err := hasherOf(*version, *algorithm, *seed, *block)
	if err != nil {
		return err
	}
	defer hasher.Close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	router, err := newRouter(ctx, hasher, s)
	if err != nil {
		return err
	}
	server := &http.Server{Addr: *listen, Handler: router, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { server.Close() })
	log.Printf("routing %s to %d engines", *listen, len(s.Engines))
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	router.wait()
	return nil
}
