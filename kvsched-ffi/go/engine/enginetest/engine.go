// Package enginetest is a vLLM engine for tests, within the process: it speaks HTTP, metrics and ZMQ
// events on the loopback interface, and what it announces are the bytes that a real engine announced.
//
// It serves the requests of a recording. The text of a request is its label in the recording: that is
// what /tokenize makes the recorded tokens of.
package enginetest

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/go-zeromq/zmq4"
)

// Engine is one process.
type Engine struct {
	// Recording is what it plays.
	Recording *Recording
	// OldReplays leaves topics out of replays, as engines before 0.26 do.
	OldReplays bool

	http     *httptest.Server
	mu       sync.Mutex
	cancel   context.CancelFunc
	events   string
	replays  string
	pub      zmq4.Socket
	router   zmq4.Socket
	buffered [][][]byte
	restarts int
	lose     map[string]bool
	waiting  int
	served   []string
	asked    int
	// As many of them as were asked by then, when a subscription was last seen.
	askedBy int
}

// Start starts an engine; close it.
func Start(recording *Recording) (*Engine, error) { return StartAt(recording, "127.0.0.1", 0, 0) }

// StartAt starts an engine at a loopback address, with its event and replay sockets at certain ports; 0 for
// any.
func StartAt(recording *Recording, host string, events, replays int) (*Engine, error) {
	e := &Engine{
		Recording: recording, lose: map[string]bool{},
		events:  fmt.Sprintf("tcp://%s:%d", host, events),
		replays: fmt.Sprintf("tcp://%s:%d", host, replays),
	}
	if err := e.open(); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		e.stop()
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", e.metrics)
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /tokenize", e.tokenize)
	mux.HandleFunc("POST /v1/completions", e.serve)
	mux.HandleFunc("POST /v1/chat/completions", e.serve)
	e.http = httptest.NewUnstartedServer(mux)
	e.http.Listener.Close()
	e.http.Listener = listener
	e.http.Start()
	return e, nil
}

// open opens the event sockets, where they were before if they were.
func (e *Engine) open() error {
	ctx, cancel := context.WithCancel(context.Background())
	quiet := zmq4.WithLogger(log.New(io.Discard, "", 0))
	pub, router := zmq4.NewPub(ctx, quiet), zmq4.NewRouter(ctx, quiet)
	var err error
	for range 50 { // a port that was just closed may take a moment
		if err = pub.Listen(e.events); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err == nil {
		for range 50 {
			if err = router.Listen(e.replays); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	if err != nil {
		cancel()
		return err
	}
	e.events, e.replays = "tcp://"+pub.Addr().String(), "tcp://"+router.Addr().String()
	e.pub, e.router, e.cancel = pub, router, cancel
	go e.answer(router)
	return nil
}

// Close stops it.
func (e *Engine) Close() {
	e.http.Close()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stop()
}

func (e *Engine) stop() {
	e.cancel()
	e.pub.Close()
	e.router.Close()
}

// Restart ends the process and starts it anew at the same addresses: its cache is empty, its messages
// are numbered from 0.
func (e *Engine) Restart() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stop()
	e.buffered, e.served = nil, nil
	e.restarts++
	return e.open()
}

// HTTP is the address of its server, Events and Replays of its sockets.
func (e *Engine) HTTP() string { return e.http.URL }

// Events is the address of the event socket.
func (e *Engine) Events() string { return e.events }

// Replays is the address of the replay socket.
func (e *Engine) Replays() string { return e.replays }

// Wait sets how many requests its metrics say are waiting.
func (e *Engine) Wait(requests int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waiting = requests
}

// Lose makes the messages of a step get lost on the way; replays still have them.
func (e *Engine) Lose(label string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lose[label] = true
}

// Served are the labels of what it was asked to serve since it started.
func (e *Engine) Served() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.served...)
}

// Asked is how many replays it was asked for, as of when somebody was last known to listen: a
// subscription may come later than the question for what was before, and what is announced before it
// comes reaches nobody.
func (e *Engine) Asked() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if topics, ok := e.pub.(zmq4.Topics); ok && len(topics.Topics()) > 0 {
		e.askedBy = e.asked
	}
	return e.askedBy
}

// Play announces what the recorded engine announced during a step.
func (e *Engine) Play(label string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.Recording.Messages {
		message := &e.Recording.Messages[i]
		if message.During != label {
			continue
		}
		frames := message.Frames()
		// A process numbers its messages from 0, whatever the recorded one had played before.
		binary.BigEndian.PutUint64(frames[1], uint64(len(e.buffered)))
		postpone(frames[2], e.restarts)
		e.buffered = append(e.buffered, frames)
		if e.lose[label] {
			continue
		}
		if err := e.pub.SendMulti(zmq4.NewMsgFrom(frames...)); err != nil {
			return err
		}
	}
	return nil
}

// postpone makes a payload be of so many hours later: an engine that was restarted does not live again in
// the same moments. The time is the first element of the batch.
func postpone(payload []byte, hours int) {
	seconds := math.Float64frombits(binary.BigEndian.Uint64(payload[2:]))
	binary.BigEndian.PutUint64(payload[2:], math.Float64bits(seconds+float64(hours)*3600))
}

// answer answers the questions of the replay socket.
func (e *Engine) answer(router zmq4.Socket) {
	end := binary.BigEndian.AppendUint64(nil, ^uint64(0))
	for {
		question, err := router.Recv()
		if err != nil {
			return
		}
		if len(question.Frames) != 3 || len(question.Frames[1]) != 0 || len(question.Frames[2]) != 8 {
			continue // the real one says nothing either
		}
		e.mu.Lock()
		e.asked++
		buffered := e.buffered
		e.mu.Unlock()
		from := binary.BigEndian.Uint64(question.Frames[2])
		for _, frames := range append(buffered[:len(buffered):len(buffered)], [][]byte{nil, end, nil}) {
			if binary.BigEndian.Uint64(frames[1]) < from {
				continue
			}
			if e.OldReplays {
				frames = frames[1:]
			}
			message := append([][]byte{question.Frames[0], nil}, frames...)
			if router.SendMulti(zmq4.NewMsgFrom(message...)) != nil {
				return
			}
		}
	}
}

func (e *Engine) metrics(w http.ResponseWriter, _ *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	fmt.Fprintf(w, `# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="tiny-llama"} 0.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="tiny-llama"} %d.0
# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="tiny-llama"} 0.0
# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="%d",cache_dtype="auto",engine="0",num_gpu_blocks="32"} 1.0
`, e.waiting, e.Recording.Settings.BlockSize)
}

// request is the part of a request's body that it looks at.
type request struct {
	Prompt   json.RawMessage `json:"prompt"`
	Messages []struct {
		Content string `json:"content"`
	} `json:"messages"`
	Stream bool `json:"stream"`
}

// step is the recorded step that a body asks for: by its label, or by its tokens.
func (e *Engine) step(body io.Reader) (*Step, request, error) {
	var asked request
	if err := json.NewDecoder(body).Decode(&asked); err != nil {
		return nil, asked, err
	}
	var label string
	var labels []string
	var tokens []uint32
	switch {
	case len(asked.Messages) > 0:
		label = asked.Messages[len(asked.Messages)-1].Content
	case json.Unmarshal(asked.Prompt, &label) == nil:
	case json.Unmarshal(asked.Prompt, &labels) == nil && len(labels) == 1:
		label = labels[0]
	case json.Unmarshal(asked.Prompt, &tokens) == nil:
		label = fmt.Sprint("tokens ", tokens)
		for i := range e.Recording.Steps {
			if s := &e.Recording.Steps[i]; fmt.Sprint(s.Tokens) == fmt.Sprint(tokens) && s.CacheSalt == nil && s.LoRAName == nil {
				return s, asked, nil
			}
		}
	}
	if step := e.Recording.Step(label); step != nil {
		return step, asked, nil
	}
	return nil, asked, fmt.Errorf("nothing is recorded of %q", label)
}

func (e *Engine) tokenize(w http.ResponseWriter, r *http.Request) {
	step, _, err := e.step(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	json.NewEncoder(w).Encode(map[string]any{"count": len(step.Tokens), "max_model_len": 2048, "tokens": step.Tokens})
}

func (e *Engine) serve(w http.ResponseWriter, r *http.Request) {
	step, asked, err := e.step(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	e.mu.Lock()
	e.served = append(e.served, step.Label)
	e.mu.Unlock()
	if err := e.Play(step.Label); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer := map[string]any{"object": "text_completion", "model": "tiny-llama",
		"choices": []map[string]any{{"index": 0, "text": step.Label, "finish_reason": "length"}},
		"usage": map[string]any{"prompt_tokens": len(step.Tokens), "completion_tokens": 1,
			"prompt_tokens_details": map[string]int{"cached_tokens": step.Cached}}}
	if !asked.Stream {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(answer)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	chunk, _ := json.Marshal(answer)
	for _, line := range []string{string(chunk), "[DONE]"} {
		fmt.Fprintf(w, "data: %s\n\n", line)
		http.NewResponseController(w).Flush()
	}
}
