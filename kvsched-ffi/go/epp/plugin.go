//go:build !llmd_router

package epp

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"reflect"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/datalayer"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/plugin"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/requestcontrol"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/scheduling"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/datalayer/attribute/prefix"

	"kvsched.local/kvsched"
	"kvsched.local/kvsched/engine"
)

var (
	_ scheduling.Scorer                = (*Plugin)(nil)
	_ requestcontrol.PrepareDataPlugin = (*Plugin)(nil)
	_ requestcontrol.PreRequest        = (*Plugin)(nil)
	_ requestcontrol.ResponseBody      = (*Plugin)(nil)
	_ datalayer.EndpointExtractor      = (*Plugin)(nil)
)

// Register makes the plugin known to the framework's configuration.
func Register() { plugin.Register(Type, Factory) }

// Plugin is kvsched within an EPP.
type Plugin struct {
	name  plugin.TypedName
	fleet *fleet
}

// Factory makes a plugin of its section of the configuration.
func Factory(name string, raw json.RawMessage, handle plugin.Handle) (plugin.Plugin, error) {
	p, err := parse(raw)
	if err != nil {
		return nil, err
	}
	if name == "" {
		name = Type
	}
	logger := log.FromContext(handle.Context()).WithName(name)
	fleet, err := newFleet(handle.Context(), p, func(err error) { logger.V(1).Info("kvsched", "trouble", err.Error()) })
	if err != nil {
		return nil, err
	}
	return &Plugin{name: plugin.TypedName{Type: Type, Name: name}, fleet: fleet}, nil
}

// TypedName is the plugin's type and name.
func (p *Plugin) TypedName() plugin.TypedName { return p.name }

// Category is what the scorer prefers: endpoints that have the prompt; a preset minds loads too.
func (p *Plugin) Category() scheduling.ScorerCategory {
	if p.fleet.Preset != "" {
		return scheduling.Balance
	}
	return scheduling.Affinity
}

// scoreKey is the attribute of an endpoint that has its score for the request.
const scoreKey = "kvsched.local/score"

type score float64

// Clone copies it.
func (s score) Clone() datalayer.Cloneable { return s }

// Produces names the attributes that every candidate gets.
func (p *Plugin) Produces() map[string]any {
	return map[string]any{prefix.PrefixCacheMatchInfoKey: prefix.PrefixCacheMatchInfo{}, scoreKey: score(0)}
}

// Consumes nothing.
func (p *Plugin) Consumes() map[string]any { return map[string]any{} }

// PrepareRequestData gives every candidate its attributes.
func (p *Plugin) PrepareRequestData(ctx context.Context, request *scheduling.LLMRequest, pods []scheduling.Endpoint) error {
	prompt, err := p.prompt(ctx, request, pods)
	if err != nil {
		return err
	}
	candidates := make([]candidate, len(pods))
	for i, pod := range pods {
		candidates[i] = candidate{name: nameOf(pod.GetMetadata()), load: loadOf(pod.GetMetrics(), p.fleet)}
	}
	standings, err := p.fleet.stand(prompt, candidates)
	for i, pod := range pods {
		s := standings[candidates[i].name]
		pod.Put(prefix.PrefixCacheMatchInfoKey, prefix.NewPrefixCacheMatchInfo(s.matched, s.blocks, p.fleet.BlockSizeTokens))
		pod.Put(scoreKey, score(s.score))
	}
	return err
}

// Score is every candidate's, as its attribute has it; where data is not prepared, it is now.
func (p *Plugin) Score(ctx context.Context, _ *scheduling.CycleState, request *scheduling.LLMRequest, pods []scheduling.Endpoint) map[scheduling.Endpoint]float64 {
	for _, pod := range pods {
		if _, prepared := pod.Get(scoreKey); prepared {
			continue
		}
		if err := p.PrepareRequestData(ctx, request, pods); err != nil {
			log.FromContext(ctx).Error(err, "kvsched cannot tell what is cached", "request", request.RequestId)
		}
		break
	}
	scores := make(map[scheduling.Endpoint]float64, len(pods))
	for _, pod := range pods {
		value, _ := pod.Get(scoreKey)
		of, _ := value.(score)
		scores[pod] = float64(of)
	}
	return scores
}

// PreRequest records where the request goes.
func (p *Plugin) PreRequest(ctx context.Context, request *scheduling.LLMRequest, result *scheduling.SchedulingResult) {
	if result == nil || request == nil {
		return
	}
	primary := result.ProfileResults[result.PrimaryProfileName]
	if primary == nil || len(primary.TargetEndpoints) == 0 {
		return
	}
	prompt, err := p.prompt(ctx, request, nil)
	if err == nil {
		err = p.fleet.sent(request.RequestId, prompt, nameOf(primary.TargetEndpoints[0].GetMetadata()))
	}
	if err != nil {
		log.FromContext(ctx).Error(err, "kvsched cannot record the route", "request", request.RequestId)
	}
}

// ResponseBody feeds the ledger: the first call tells of the first token, the last of the end.
func (p *Plugin) ResponseBody(ctx context.Context, request *scheduling.LLMRequest, response *requestcontrol.Response, _ *datalayer.EndpointMetadata) {
	if request == nil || response == nil {
		return
	}
	err := p.fleet.streaming(request.RequestId)
	if response.EndOfStream && err == nil {
		err = p.fleet.ended(request.RequestId, response.Usage.CompletionTokens)
	}
	if err != nil {
		log.FromContext(ctx).Error(err, "kvsched cannot count the response", "request", request.RequestId)
	}
}

// ExpectedInputType is an event of an endpoint's life.
func (p *Plugin) ExpectedInputType() reflect.Type { return datalayer.EndpointEventReflectType }

// Extract is for sources that are polled, which this one is not.
func (p *Plugin) Extract(context.Context, any, datalayer.Endpoint) error { return nil }

// ExtractEndpoint lets an endpoint join or leave.
func (p *Plugin) ExtractEndpoint(_ context.Context, event datalayer.EndpointEvent) error {
	meta := event.Endpoint.GetMetadata()
	switch event.Type {
	case datalayer.EventAddOrUpdate:
		return p.fleet.join(nameOf(meta), meta.Address, rankOf(meta.NamespacedName.Name, meta.PodName))
	case datalayer.EventDelete:
		return p.fleet.leave(nameOf(meta))
	default:
		return fmt.Errorf("unknown event type %d", event.Type)
	}
}

// rankOf is the data-parallel rank, which the framework writes into the endpoint's name.
func rankOf(name, pod string) int {
	rank, err := strconv.Atoi(strings.TrimPrefix(name, pod+"-rank-"))
	if err != nil || rank < 0 {
		return 0
	}
	return rank
}

func nameOf(meta *datalayer.EndpointMetadata) string { return meta.NamespacedName.String() }

// loadOf is what an endpoint is doing, as the framework has polled it.
func loadOf(m *datalayer.Metrics, f *fleet) kvsched.Candidate {
	if m == nil {
		return kvsched.Candidate{}
	}
	capacity := m.KvCacheMaxTokenCapacity
	if capacity == 0 {
		capacity = m.CacheBlockSize * m.CacheNumBlocks
	}
	return kvsched.Candidate{
		WaitingRequests:  uint32(max(m.WaitingQueueSize, 0)),
		RunningRequests:  uint32(max(m.RunningRequestsSize, 0)),
		KVUsage:          m.KVCacheUsagePercent,
		KVCapacityTokens: uint64(max(capacity, 0)),
		ObservedAt:       max(int64(m.UpdateTime.Sub(f.start)), 0),
	}
}

// prompt is what the engines' cache keys are made of. Without tokens, nothing of it can be cached.
func (p *Plugin) prompt(ctx context.Context, request *scheduling.LLMRequest, pods []scheduling.Endpoint) (kvsched.Prompt, error) {
	var prompt kvsched.Prompt
	if adapter, is := p.fleet.LoRA[request.TargetModel]; is {
		prompt.LoRA = &kvsched.LoRA{Name: request.TargetModel, Path: adapter.Path, ID: adapter.ID}
	}
	if request.Body != nil {
		prompt.CacheSalt = request.Body.CacheSalt()
	}
	if request.TokenizedPrompt == nil && p.fleet.Tokenize && request.Body != nil && len(pods) > 0 {
		tokens, err := p.tokenize(ctx, request.Body, pods[0].GetMetadata())
		if err != nil {
			return prompt, err
		}
		request.TokenizedPrompt = &scheduling.TokenizedPrompt{TokenIDs: tokens}
	}
	if tokenized := request.TokenizedPrompt; tokenized != nil {
		prompt.Tokens = tokenized.TokenIDs
		for _, item := range tokenized.MultiModalFeatures {
			prompt.Multimodal = append(prompt.Multimodal, kvsched.MultimodalItem{
				Identifier: item.Hash, Offset: uint32(item.Offset), Length: uint32(item.Length),
			})
		}
	}
	return prompt, nil
}

// tokenizePatience is below the framework's for all preparation of a request.
const tokenizePatience = 300 * time.Millisecond

func (p *Plugin) tokenize(ctx context.Context, body *scheduling.LLMRequestBody, of *datalayer.EndpointMetadata) ([]uint32, error) {
	fields, parsed := body.Payload.(scheduling.PayloadMap)
	if !parsed {
		return nil, fmt.Errorf("a body that is not JSON cannot be tokenized")
	}
	text, err := json.Marshal(map[string]any(fields))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, tokenizePatience)
	defer cancel()
	client := engine.Client{Base: "http://" + net.JoinHostPort(of.Address, of.Port)}
	return client.Tokenize(ctx, text)
}
