package engine_test

import (
	"reflect"
	"strings"
	"testing"

	"kvsched.local/kvsched"
	"kvsched.local/kvsched/engine"
)

func TestLoadIsReadFromMetrics(t *testing.T) {
	const metrics = `# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a \"b\", {c}"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 4 1700000000000
vllm:num_requests_waiting{engine="0",model_name="m"} 1e1
vllm:num_requests_waiting{engine="1",model_name="m"} NaN
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:cache_config_info{block_size="32",engine="0",num_gpu_blocks="100"} 1.0
process_open_fds 12.0
not a line of metrics
`
	load, err := engine.LoadOf([]byte(metrics), 0)
	want := kvsched.Candidate{RunningRequests: 3, WaitingRequests: 10, KVUsage: 0.25, KVCapacityTokens: 3200}
	if err != nil || !reflect.DeepEqual(load, want) {
		t.Fatalf("%+v %v", load, err)
	}
	if load, err := engine.LoadOf([]byte(metrics), 1); err != nil || load.RunningRequests != 4 || load.KVCapacityTokens != 0 {
		t.Fatalf("%+v %v", load, err)
	}
	if _, err := engine.LoadOf([]byte(metrics), 2); err == nil || !strings.Contains(err.Error(), "rank 2") {
		t.Fatal(err)
	}
}

func TestAnEngineIsAsked(t *testing.T) {
	r := newRig(t, "A")
	r.engine.Wait(7)
	client := &engine.Client{Base: r.engine.HTTP()}
	if load, err := client.Load(t.Context(), 0); err != nil || load.WaitingRequests != 7 || load.KVCapacityTokens != 1024 {
		t.Fatalf("%+v %v", load, err)
	}
	tokens, err := client.Tokenize(t.Context(), []byte(`{"model": "m", "prompt": "r0_base_exact", "stream": true}`))
	if err != nil || !reflect.DeepEqual(tokens, r.engine.Recording.Step("r0_base_exact").Tokens) {
		t.Fatal(tokens, err)
	}
	if _, err := client.Tokenize(t.Context(), []byte(`{"prompt": "unheard of"}`)); err == nil || !strings.Contains(err.Error(), "400") {
		t.Fatal(err)
	}
}
