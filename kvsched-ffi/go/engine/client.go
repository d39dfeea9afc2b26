package engine

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"kvsched.local/kvsched"
)

// Client asks an engine's HTTP server.
type Client struct {
	// Base is its address, as "http://10.0.0.1:8000".
	Base string
	// HTTP is what asks; nil for http.DefaultClient.
	HTTP *http.Client
}

// The most that is read of an answer.
const mostBytes = 64 << 20

func (c *Client) do(request *http.Request) ([]byte, error) {
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, mostBytes+1))
	if err != nil {
		return nil, err
	}
	if len(body) > mostBytes {
		return nil, fmt.Errorf("%s: an answer of more than %d bytes", request.URL, mostBytes)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %.200s", request.URL, response.Status, body)
	}
	return body, nil
}

// Tokenize asks the engine for the tokens of a request's body, which it reads as it would to serve it:
// with its own tokenizer and chat template. The body is of /v1/completions, with a prompt that is a
// text, or of /v1/chat/completions.
func (c *Client) Tokenize(ctx context.Context, body []byte) ([]uint32, error) {
	var given map[string]json.RawMessage
	if err := json.Unmarshal(body, &given); err != nil {
		return nil, err
	}
	asked := map[string]json.RawMessage{}
	for _, field := range []string{"model", "prompt", "messages", "tools", "chat_template", "chat_template_kwargs",
		"add_generation_prompt", "continue_final_message", "add_special_tokens"} {
		if value, there := given[field]; there {
			asked[field] = value
		}
	}
	question, err := json.Marshal(asked)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Base+"/tokenize", bytes.NewReader(question))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := c.do(request)
	if err != nil {
		return nil, err
	}
	var tokenized struct {
		Tokens *[]uint32 `json:"tokens"`
	}
	if err := json.Unmarshal(answer, &tokenized); err != nil {
		return nil, err
	}
	if tokenized.Tokens == nil {
		return nil, errors.New("the engine's answer has no tokens")
	}
	return *tokenized.Tokens, nil
}

// Load reads the engine's /metrics: what rank `rank` of it is doing. The candidate's endpoint, times and
// own counts are left to the caller.
func (c *Client) Load(ctx context.Context, rank uint32) (kvsched.Candidate, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Base+"/metrics", nil)
	if err != nil {
		return kvsched.Candidate{}, err
	}
	answer, err := c.do(request)
	if err != nil {
		return kvsched.Candidate{}, err
	}
	return LoadOf(answer, rank)
}

// LoadOf reads the load figures of rank `rank` from the text of an engine's /metrics.
func LoadOf(metrics []byte, rank uint32) (kvsched.Candidate, error) {
	var load kvsched.Candidate
	var found bool
	engine := strconv.FormatUint(uint64(rank), 10)
	lines := bufio.NewScanner(bytes.NewReader(metrics))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, labels, value, ok := sample(lines.Text())
		if !ok {
			continue
		}
		// Engines before 0.9 have no such label, and no ranks.
		if of, labelled := labels["engine"]; labelled && of != engine {
			continue
		}
		switch name {
		case "vllm:num_requests_waiting":
			load.WaitingRequests, found = uint32(max(value, 0)), true
		case "vllm:num_requests_running":
			load.RunningRequests, found = uint32(max(value, 0)), true
		case "vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc":
			load.KVUsage = min(max(value, 0), 1)
		case "vllm:cache_config_info":
			blocks, _ := strconv.ParseUint(labels["num_gpu_blocks"], 10, 32)
			size, _ := strconv.ParseUint(labels["block_size"], 10, 32)
			load.KVCapacityTokens = blocks * size
		}
	}
	if err := lines.Err(); err != nil {
		return kvsched.Candidate{}, err
	}
	if !found {
		return kvsched.Candidate{}, fmt.Errorf("no figures of vLLM's rank %d", rank)
	}
	return load, nil
}

// sample reads a line of the Prometheus text format: a name, its labels and a value.
func sample(line string) (name string, labels map[string]string, value float64, ok bool) {
	if line == "" || line[0] == '#' {
		return "", nil, 0, false
	}
	name, rest, labelled := strings.Cut(line, "{")
	if labelled {
		labels = map[string]string{}
		for {
			key, after, has := strings.Cut(rest, "=")
			quoted, err := strconv.QuotedPrefix(after)
			if !has || err != nil {
				return "", nil, 0, false
			}
			text, _ := strconv.Unquote(quoted)
			labels[key] = text
			rest = strings.TrimPrefix(after[len(quoted):], ",")
			if closed, is := strings.CutPrefix(rest, "}"); is {
				rest = closed
				break
			}
		}
	} else {
		name, rest, _ = strings.Cut(line, " ")
	}
	fields := strings.Fields(rest) // a time may follow
	if len(fields) == 0 {
		return "", nil, 0, false
	}
	value, err := strconv.ParseFloat(fields[0], 64)
	return name, labels, value, err == nil && value == value
}
