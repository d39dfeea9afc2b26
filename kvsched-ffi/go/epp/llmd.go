//go:build llmd_router

package epp

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"

	"github.com/llm-d/llm-d-router/pkg/epp/framework/interface/datalayer"
	"github.com/llm-d/llm-d-router/pkg/epp/framework/interface/plugin"
	"github.com/llm-d/llm-d-router/pkg/epp/framework/interface/requestcontrol"
	"github.com/llm-d/llm-d-router/pkg/epp/framework/interface/requesthandling"
	"github.com/llm-d/llm-d-router/pkg/epp/framework/interface/scheduling"
	"github.com/llm-d/llm-d-router/pkg/epp/framework/plugins/datalayer/attribute/prefix"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"kvsched.local/kvsched"
	"kvsched.local/kvsched/engine"
)

// The signatures of llm-d's router as of August 2026. Its module cannot be had where kvsched is tested: not
// verified there. To try it, add the module to go.mod and build with the tag.

var (
	_ scheduling.Scorer                    = (*Plugin)(nil)
	_ requestcontrol.DataProducer          = (*Plugin)(nil)
	_ requestcontrol.PreRequest            = (*Plugin)(nil)
	_ requestcontrol.ResponseBodyProcessor = (*Plugin)(nil)
	_ datalayer.EndpointExtractor          = (*Plugin)(nil)
)

// Register makes the plugin known to the router's configuration.
func Register() { plugin.Register(Type, plugin.StabilityAlpha, Factory) }

// Plugin is kvsched within llm-d's router.
type Plugin struct {
	name  plugin.TypedName
	fleet *fleet
}

// Factory makes a plugin of its section of the configuration.
func Factory(name string, section *json.Decoder, handle plugin.Handle) (plugin.Plugin, error) {
	var raw json.RawMessage
	if section != nil {
		if err := section.Decode(&raw); err != nil {
			return nil, err
		}
	}
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

// The attributes that every candidate gets. Consumers of the prefix match name its producer as ours.
func (p *Plugin) matchKey() plugin.DataKey {
	return prefix.PrefixCacheMatchInfoDataKey.WithNonEmptyProducerName(p.name.Name)
}

func (p *Plugin) scoreKey() plugin.DataKey {
	return plugin.NewDataKey("kvsched.local/score", p.name.Name)
}

type score float64

// Clone copies it.
func (s score) Clone() datalayer.Cloneable { return s }

// Produces names them.
func (p *Plugin) Produces() map[plugin.DataKey]any {
	return map[plugin.DataKey]any{p.matchKey(): prefix.PrefixCacheMatchInfo{}, p.scoreKey(): score(0)}
}

// Produce gives every candidate its attributes.
func (p *Plugin) Produce(ctx context.Context, request *scheduling.InferenceRequest, pods []scheduling.Endpoint) error {
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
		pod.Put(p.matchKey(), prefix.NewPrefixCacheMatchInfo(s.matched, s.blocks, p.fleet.BlockSizeTokens))
		pod.Put(p.scoreKey(), score(s.score))
	}
	return err
}

// Score is every candidate's, as its attribute has it; where nothing was produced, it is now.
func (p *Plugin) Score(ctx context.Context, request *scheduling.InferenceRequest, pods []scheduling.Endpoint) map[scheduling.Endpoint]float64 {
	for _, pod := range pods {
		if _, produced := pod.Get(p.scoreKey()); produced {
			continue
		}
		if err := p.Produce(ctx, request, pods); err != nil {
			log.FromContext(ctx).Error(err, "kvsched cannot tell what is cached", "request", request.RequestID)
		}
		break
	}
	scores := make(map[scheduling.Endpoint]float64, len(pods))
	for _, pod := range pods {
		value, _ := pod.Get(p.scoreKey())
		of, _ := value.(score)
		scores[pod] = float64(of)
	}
	return scores
}

// PreRequest records where the request goes. A route that cannot be recorded is no reason not to take it.
func (p *Plugin) PreRequest(ctx context.Context, request *scheduling.InferenceRequest, result *scheduling.SchedulingResult) error {
	if result == nil || request == nil {
		return nil
	}
	primary := result.ProfileResults[result.PrimaryProfileName]
	if primary == nil || len(primary.TargetEndpoints) == 0 {
		return nil
	}
	prompt, err := p.prompt(ctx, request, nil)
	if err == nil {
		err = p.fleet.sent(request.RequestID, prompt, nameOf(primary.TargetEndpoints[0].GetMetadata()))
	}
	if err != nil {
		log.FromContext(ctx).Error(err, "kvsched cannot record the route", "request", request.RequestID)
	}
	return nil
}

// ResponseBody feeds the ledger: the first call tells of the first token, the last of the end.
func (p *Plugin) ResponseBody(ctx context.Context, request *scheduling.InferenceRequest, response *requestcontrol.Response, _ *datalayer.EndpointMetadata) {
	if request == nil || response == nil {
		return
	}
	err := p.fleet.streaming(request.RequestID)
	if response.EndOfStream && err == nil {
		err = p.fleet.ended(request.RequestID, response.Usage.CompletionTokens)
	}
	if err != nil {
		log.FromContext(ctx).Error(err, "kvsched cannot count the response", "request", request.RequestID)
	}
}

// Extract lets an endpoint join or leave.
func (p *Plugin) Extract(_ context.Context, event datalayer.EndpointEvent) error {
	meta := event.Endpoint.GetMetadata()
	switch event.Type {
	case datalayer.EventAddOrUpdate:
		return p.fleet.join(nameOf(meta), meta.Address, meta.RankIndex)
	case datalayer.EventDelete:
		return p.fleet.leave(nameOf(meta))
	default:
		return fmt.Errorf("unknown event type %d", event.Type)
	}
}

func nameOf(meta *datalayer.EndpointMetadata) string { return meta.ID.String() }

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

// prompt is what the engines' cache keys are made of; of several prompts, the first. Without tokens, nothing
// of it can be cached.
func (p *Plugin) prompt(ctx context.Context, request *scheduling.InferenceRequest, pods []scheduling.Endpoint) (kvsched.Prompt, error) {
	var prompt kvsched.Prompt
	if adapter, is := p.fleet.LoRA[request.TargetModel]; is {
		prompt.LoRA = &kvsched.LoRA{Name: request.TargetModel, Path: adapter.Path, ID: adapter.ID}
	}
	body := request.Body
	if body == nil {
		return prompt, nil
	}
	if body.TokenizedRequest == nil && p.fleet.Tokenize && len(pods) > 0 {
		tokenized, err := p.tokenize(ctx, body, pods[0].GetMetadata())
		if err != nil {
			return prompt, err
		}
		body.TokenizedRequest = tokenized
	}
	if tokenized := body.TokenizedRequest; tokenized != nil && len(tokenized.Prompts) > 0 {
		prompt.Tokens, prompt.CacheSalt = tokenized.Prompts[0].TokenIDs, tokenized.CacheSalt
		for _, item := range tokenized.Prompts[0].MultiModalFeatures {
			prompt.Multimodal = append(prompt.Multimodal, kvsched.MultimodalItem{
				Identifier: item.Hash, Offset: uint32(item.Offset), Length: uint32(item.Length),
			})
		}
	}
	return prompt, nil
}

// tokenizePatience is below the framework's for all preparation of a request.
const tokenizePatience = 300 * time.Millisecond

func (p *Plugin) tokenize(ctx context.Context, body *requesthandling.InferenceRequestBody, of *datalayer.EndpointMetadata) (*requesthandling.TokenizedRequest, error) {
	fields, parsed := body.Payload.(requesthandling.PayloadMap)
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
	tokens, err := client.Tokenize(ctx, text)
	if err != nil {
		return nil, err
	}
	salt, _ := fields["cache_salt"].(string)
	prompts := []requesthandling.PromptTokens{{TokenIDs: tokens}}
	return &requesthandling.TokenizedRequest{Prompts: prompts, CacheSalt: salt}, nil
}
