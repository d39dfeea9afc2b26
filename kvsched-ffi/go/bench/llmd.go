package main

import (
	"context"

	"github.com/go-logr/logr"
	"github.com/llm-d/llm-d-kv-cache/pkg/kvcache"
	"github.com/llm-d/llm-d-kv-cache/pkg/kvcache/kvblock"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

const model = "meta-llama/Llama-3.1-8B-Instruct"

// peer is llm-d's indexer with its default settings, which knows the same fleet.
type peer struct {
	indexer   *kvcache.Indexer
	processor kvblock.TokenProcessor
	scorer    kvcache.KVBlockScorer
	pods      sets.Set[string]
	fleet     *fleet
}

func newPeer(ctx context.Context, f *fleet) (*peer, error) {
	log.SetLogger(logr.Discard()) // what it would log costs nothing here
	processor, err := kvblock.NewChunkedTokenDatabase(kvblock.DefaultTokenProcessorConfig())
	if err != nil {
		return nil, err
	}
	config, err := kvcache.NewDefaultConfig()
	if err != nil {
		return nil, err
	}
	indexer, err := kvcache.NewKVCacheIndexer(ctx, config, processor)
	if err != nil {
		return nil, err
	}
	for e, name := range f.names {
		pod := []kvblock.PodEntry{{PodIdentifier: name, DeviceTier: "gpu"}}
		for p := range f.prompts {
			tokens := f.prompts[p][:held(p, e)*blockSize]
			keys, err := processor.TokensToKVBlockKeys(kvblock.EmptyBlockHash, tokens, model, nil)
			if err != nil {
				return nil, err
			}
			if len(keys) == 0 {
				continue
			}
			if err := indexer.KVBlockIndex().Add(ctx, keys, keys, pod); err != nil {
				return nil, err
			}
		}
	}
	scorer, err := kvcache.NewKVBlockScorer(config.KVBlockScorerConfig)
	if err != nil {
		return nil, err
	}
	return &peer{indexer, processor, scorer, sets.New(f.names[:]...), f}, nil
}

// scores are those of prompt p by endpoint's name: for blocks on GPUs, their number.
func (l *peer) scores(ctx context.Context, p int) (map[string]float64, error) {
	return l.indexer.ScoreTokens(ctx, l.fleet.prompts[p], model, l.fleet.names[:], nil)
}

// parts are the same scores from the three steps that the indexer takes, without what it prepares
// meanwhile for a log that nobody reads: the least that its users could come to.
func (l *peer) parts(ctx context.Context, p int) (map[string]float64, error) {
	keys, err := l.processor.TokensToKVBlockKeys(kvblock.EmptyBlockHash, l.fleet.prompts[p], model, nil)
	if err != nil {
		return nil, err
	}
	pods, err := l.indexer.KVBlockIndex().Lookup(ctx, keys, l.pods)
	if err != nil {
		return nil, err
	}
	return l.scorer.Score(ctx, keys, pods)
}
