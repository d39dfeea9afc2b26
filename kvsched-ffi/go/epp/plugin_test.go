//go:build !llmd_router

package epp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/config/loader"
	fwkdatalayer "sigs.k8s.io/gateway-api-inference-extension/pkg/epp/datalayer"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/datalayer"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/plugin"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/requestcontrol"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/scheduling"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/datalayer/attribute/prefix"
	extractormetrics "sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/datalayer/extractor/metrics"
	sourcemetrics "sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/datalayer/source/metrics"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/datalayer/source/notifications"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/flowcontrol/fairness"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/flowcontrol/ordering"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/flowcontrol/saturationdetector/utilization"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/flowcontrol/usagelimits"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/requesthandling/parsers/openai"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/scheduling/picker"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/scheduling/profile"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/scheduling/scorer/kvcacheutilization"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/scheduling/scorer/queuedepth"
	fwkscheduling "sigs.k8s.io/gateway-api-inference-extension/pkg/epp/scheduling"

	"kvsched.local/kvsched"
	"kvsched.local/kvsched/engine/enginetest"
)

func init() {
	Register()
	for kind, factory := range map[string]plugin.FactoryFunc{
		// What the configuration below names.
		queuedepth.QueueScorerType:                      queuedepth.QueueScorerFactory,
		kvcacheutilization.KvCacheUtilizationScorerType: kvcacheutilization.KvCacheUtilizationScorerFactory,
		picker.MaxScorePickerType:                       picker.MaxScorePickerFactory,
		notifications.EndpointNotificationSourceType:    notifications.EndpointSourceFactory,
		sourcemetrics.MetricsDataSourceType:             sourcemetrics.MetricsDataSourceFactory,
		extractormetrics.MetricsExtractorType:           extractormetrics.CoreMetricsExtractorFactory,
		// What the loader adds.
		profile.SingleProfileHandlerType:        profile.SingleProfileHandlerFactory,
		fairness.GlobalStrictFairnessPolicyType: fairness.GlobalStrictFairnessPolicyFactory,
		ordering.FCFSOrderingPolicyType:         ordering.FCFSOrderingPolicyFactory,
		usagelimits.StaticUsageLimitPolicyType:  usagelimits.StaticPolicyFactory,
		openai.OpenAIParserType:                 openai.OpenAIParserPluginFactory,
		utilization.UtilizationDetectorType:     utilization.UtilizationDetectorFactory,
	} {
		plugin.Register(kind, factory)
	}
}

const configuration = `
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: kvsched-scorer
  parameters:
    engineVersion: %q
    hashAlgorithm: %q
    hashSeed: %q
    blockSizeTokens: %d
    eventsPort: %s
    replayPort: %s
    tokenize: true
    lora: %s
- type: queue-scorer
- type: kv-cache-utilization-scorer
- type: max-score-picker
- type: endpoint-notification-source
- type: metrics-data-source
- type: core-metrics-extractor
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: kvsched-scorer
    weight: 3
  - pluginRef: queue-scorer
    weight: 2
  - pluginRef: kv-cache-utilization-scorer
    weight: 2
  - pluginRef: max-score-picker
dataLayer:
  sources:
  - pluginRef: metrics-data-source
    extractors:
    - pluginRef: core-metrics-extractor
  - pluginRef: endpoint-notification-source
    extractors:
    - pluginRef: kvsched-scorer
`

// rig is the framework's own loader, data layer and scheduler, with our plugin beside its stock ones, and
// pods that play a recording.
type rig struct {
	*testing.T
	engines   []*enginetest.Engine
	plugin    *Plugin
	data      *fwkdatalayer.Runtime
	scheduler *fwkscheduling.Scheduler
	pods      []datalayer.Endpoint
}

func newRig(t *testing.T) *rig {
	recorded, err := enginetest.Read("A")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t}
	// All pods of a deployment have the same ports; here, each has a loopback address of its own.
	ports := [2]string{"0", "0"}
	for i := range 2 {
		var events, replays int
		fmt.Sscan(ports[0], &events)
		fmt.Sscan(ports[1], &replays)
		e, err := enginetest.StartAt(recorded, fmt.Sprintf("127.0.0.%d", i+1), events, replays)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(e.Close)
		r.engines = append(r.engines, e)
		for j, address := range []string{e.Events(), e.Replays()} {
			_, ports[j], _ = net.SplitHostPort(strings.TrimPrefix(address, "tcp://"))
		}
	}
	named := recorded.Engine()
	adapters := map[string]adapter{}
	for i := range recorded.Steps {
		if lora := recorded.Steps[i].Prompt().LoRA; lora != nil {
			adapters[lora.Name] = adapter{lora.Path, lora.ID}
		}
	}
	lora, err := json.Marshal(adapters)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(configuration, named.Version, named.Algorithm, *named.Seed, named.BlockSize, ports[0], ports[1],
		lora)

	ctx, cancel := context.WithCancel(logr.NewContext(context.Background(), logr.Discard()))
	t.Cleanup(cancel)
	handle := plugin.NewEppHandle(ctx, func() []types.NamespacedName { return nil })
	raw, _, err := loader.LoadRawConfig([]byte(text), logr.Discard())
	if err != nil {
		t.Fatal(err)
	}
	config, err := loader.InstantiateAndConfigure(raw, handle, logr.Discard())
	if err != nil {
		t.Fatal(err)
	}
	r.scheduler = fwkscheduling.NewSchedulerWithConfig(config.SchedulerConfig)
	r.plugin = handle.Plugin(Type).(*Plugin)
	r.data = fwkdatalayer.NewRuntime(20 * time.Millisecond)
	if err := r.data.Configure(config.DataConfig, true, "", logr.Discard()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.data.Stop() })
	for i, e := range r.engines {
		base, err := url.Parse(e.HTTP())
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("vllm-%d", i)
		pod := r.data.NewEndpoint(ctx, &datalayer.EndpointMetadata{
			NamespacedName: types.NamespacedName{Namespace: "default", Name: name}, PodName: name,
			Address: base.Hostname(), Port: base.Port(), MetricsHost: base.Host,
		}, nil)
		r.pods = append(r.pods, pod)
	}
	r.eventually("all pods are followed", func() bool { return r.engines[0].Asked() > 0 && r.engines[1].Asked() > 0 })
	return r
}

func (r *rig) eventually(what string, is func() bool) {
	r.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if is() {
			return
		}
	}
	r.Fatalf("not in time: %s", what)
}

// busy has a pod's metrics say that requests wait, and waits until the framework has polled them.
func (r *rig) busy(pod, requests int) {
	r.engines[pod].Wait(requests)
	r.eventually("metrics polled", func() bool { return r.pods[pod].GetMetrics().WaitingQueueSize == requests })
}

// candidates are the pods as the framework hands them to a request.
func (r *rig) candidates() []scheduling.Endpoint {
	var all []scheduling.Endpoint
	for _, pod := range r.pods {
		all = append(all, scheduling.NewEndpoint(pod.GetMetadata(), pod.GetMetrics(), pod.GetAttributes()))
	}
	return all
}

// request is a recorded step as it comes to the framework: its text in the body, not tokenized.
func request(step *enginetest.Step) *scheduling.LLMRequest {
	prompt := step.Prompt()
	asked := &scheduling.LLMRequest{RequestId: step.Label, TargetModel: "tiny-llama", Body: &scheduling.LLMRequestBody{
		Completions: &scheduling.CompletionsRequest{Prompt: scheduling.Prompt{Raw: step.Label}, CacheSalt: prompt.CacheSalt},
		Payload:     scheduling.PayloadMap{"model": "tiny-llama", "prompt": step.Label},
	}}
	if prompt.LoRA != nil {
		asked.TargetModel = prompt.LoRA.Name
	}
	return asked
}

func TestTheFrameworksSchedulerFollowsTheCaches(t *testing.T) {
	r := newRig(t)
	r.busy(1, 1)
	ctx := logr.NewContext(t.Context(), logr.Discard())
	recording := r.engines[0].Recording
	batches, checked, hits := uint64(0), 0, 0
	for i := range recording.Steps {
		step := &recording.Steps[i]
		if !step.Alone() || step.Embeds != nil {
			break // what follows depends on the order of concurrent requests
		}
		asked, candidates := request(step), r.candidates()
		if i%2 == 0 {
			// As the director does; where it does not, the scorer prepares what it needs.
			if err := r.plugin.PrepareRequestData(ctx, asked, candidates); err != nil {
				t.Fatal(err)
			}
		}
		result, err := r.scheduler.Schedule(ctx, asked, candidates)
		if err != nil {
			t.Fatal(err)
		}
		chosen := result.ProfileResults[result.PrimaryProfileName].TargetEndpoints[0]
		var info *prefix.PrefixCacheMatchInfo
		for _, candidate := range candidates {
			value, _ := candidate.Get(prefix.PrefixCacheMatchInfoKey)
			of, is := value.(*prefix.PrefixCacheMatchInfo)
			if !is {
				t.Fatalf("%s: no prefix-match attribute", step.Label)
			}
			if candidate.GetMetadata().PodName == "vllm-0" {
				info = of
			} else if of.MatchBlocks() != 0 {
				t.Errorf("%s: an engine that served nothing holds %d blocks", step.Label, of.MatchBlocks())
			}
		}
		if got := info.MatchBlocks() * info.BlockSizeTokens(); got != step.Cached || chosen.GetMetadata().PodName != "vllm-0" {
			t.Errorf("%s: to %s, %d tokens expected to be cached, the engine had %d",
				step.Label, chosen.GetMetadata().PodName, got, step.Cached)
		}
		r.plugin.PreRequest(ctx, asked, result)
		endpoint, _ := r.plugin.fleet.endpoint("default/vllm-0")
		if work, err := r.plugin.fleet.scheduler.Outstanding(endpoint); err != nil || work.Requests != 1 || work.Decoding != 0 {
			t.Fatal(work, err)
		}
		if err := r.engines[0].Play(step.Label); err != nil {
			t.Fatal(err)
		}
		r.plugin.ResponseBody(ctx, asked, &requestcontrol.Response{}, chosen.GetMetadata())
		if work, err := r.plugin.fleet.scheduler.Outstanding(endpoint); err != nil || work.Decoding != 1 {
			t.Fatal(work, err)
		}
		r.plugin.ResponseBody(ctx, asked, &requestcontrol.Response{EndOfStream: true}, chosen.GetMetadata())
		if work, err := r.plugin.fleet.scheduler.Outstanding(endpoint); err != nil || work.Requests != 0 {
			t.Fatal(work, err)
		}
		for _, message := range recording.Messages {
			if message.During == step.Label {
				batches++
			}
		}
		r.eventually("the engine's messages are taken in", func() bool {
			stats, err := r.plugin.fleet.scheduler.Stats()
			return err == nil && stats.Batches >= batches
		})
		checked++
		hits += step.Cached
	}
	if checked < 8 || hits == 0 {
		t.Fatalf("only %d requests, %d tokens cached", checked, hits)
	}
}

func TestStockScorersStillCount(t *testing.T) {
	r := newRig(t)
	ctx := logr.NewContext(t.Context(), logr.Discard())
	step := r.engines[0].Recording.Step("r3_short_lt_block") // nothing of it can be cached
	for busy, want := range []string{"vllm-1", "vllm-0"} {
		r.busy(busy, 20)
		r.busy(1-busy, 0)
		result, err := r.scheduler.Schedule(ctx, request(step), r.candidates())
		if err != nil {
			t.Fatal(err)
		}
		if got := result.ProfileResults["default"].TargetEndpoints[0].GetMetadata().PodName; got != want {
			t.Fatalf("vllm-%d is busy: %s", busy, got)
		}
	}
}

func TestPodsComeAndGo(t *testing.T) {
	r := newRig(t)
	ctx := logr.NewContext(t.Context(), logr.Discard())
	scheduler := r.plugin.fleet.scheduler
	if _, err := scheduler.FindEndpoint("default/vllm-1", 0); err != nil {
		t.Fatal(err)
	}
	all := r.candidates()
	r.data.ReleaseEndpoint(r.pods[1])
	if _, err := scheduler.FindEndpoint("default/vllm-1", 0); !errors.Is(err, kvsched.ErrUnknownEndpoint) {
		t.Fatal(err)
	}
	// A request that still has the pod among its candidates is told, and routed all the same.
	step := r.engines[0].Recording.Step("r0_base_exact")
	if err := r.plugin.PrepareRequestData(ctx, request(step), all); err == nil || !strings.Contains(err.Error(), "default/vllm-1") {
		t.Fatal(err)
	}
	scores := r.plugin.Score(ctx, nil, request(step), all)
	if len(scores) != 2 {
		t.Fatal(scores)
	}
	// The same name at another address is another engine.
	meta := r.pods[0].GetMetadata().Clone()
	before, _ := r.plugin.fleet.endpoint("default/vllm-0")
	event := datalayer.EndpointEvent{Type: datalayer.EventAddOrUpdate, Endpoint: datalayer.NewEndpoint(meta, nil)}
	if err := r.plugin.ExtractEndpoint(ctx, event); err != nil {
		t.Fatal(err)
	}
	meta.Address = "127.0.0.9"
	if err := r.plugin.ExtractEndpoint(ctx, event); err != nil {
		t.Fatal(err)
	}
	after, known := r.plugin.fleet.endpoint("default/vllm-0")
	if report, err := scheduler.Trust(after); !known || err != nil || report.Trust == kvsched.Exact {
		t.Fatal(before, after, report, err)
	}
}

func TestParametersAreChecked(t *testing.T) {
	handle := plugin.NewEppHandle(t.Context(), nil)
	for text, says := range map[string]string{
		`{"engineversion": "0.33.0", "blocksize": 16}`:    "blocksize",
		`{"eventsPort": 70000}`:                           "eventsPort is 70000",
		`{"engineVersion": "0.8"}`:                        "older than",
		`{"blockSizeTokens": -1}`:                         "block size",
		`{"preset": "dynamoo"}`:                           "did you mean",
		`{"engineVersion": "0.33.0", "hashAlgorithm": 3}`: "hashAlgorithm",
	} {
		if _, err := Factory("", []byte(text), handle); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
	made, err := Factory("mine", nil, handle)
	if err != nil || made.TypedName() != (plugin.TypedName{Type: Type, Name: "mine"}) {
		t.Fatal(made, err)
	}
	if got := made.(*Plugin).Category(); got != scheduling.Affinity {
		t.Fatal(got)
	}
}

func TestRanksCountOn(t *testing.T) {
	for name, want := range map[string]int{"pod-rank-3": 3, "pod": 0, "pod-rank-": 0, "pod-rank--1": 0} {
		if got := rankOf(name, "pod"); got != want {
			t.Errorf("%s: %d", name, got)
		}
	}
}

func TestFlightsAreBounded(t *testing.T) {
	var f flights
	for i := range mostFlights + 10 {
		f.depart(fmt.Sprint(i), kvsched.Ticket(i+1))
	}
	if _, flying := f.arrive("9"); flying || len(f.byID) != mostFlights {
		t.Fatal(flying, len(f.byID))
	}
	if ticket, flying := f.arrive("10"); !flying || ticket != 11 {
		t.Fatal(ticket, flying)
	}
}
