// Command llmd measures llm-d's block index on the workloads of the program above, and prints rows:
// bench, shape, who, value, median, unit, better, tab by tab.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"math"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/go-logr/logr"
	"github.com/llm-d/llm-d-kv-cache/pkg/kvcache"
	"github.com/llm-d/llm-d-kv-cache/pkg/kvcache/kvblock"
	"k8s.io/apimachinery/pkg/util/sets"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
)

const (
	who    = "llm-d v0.9.0 (Go)"
	common = 32 // leading blocks that all prompts share
)

type hash = kvblock.BlockHash

// chain is a block's hash, from the one before it and a number: the same as in the other program.
func chain(parent hash, n uint64) hash {
	mixed := (uint64(parent) ^ n*0x9e3779b97f4a7c15) * 0xd6e8feb86659fd93
	return hash(mixed ^ mixed>>32)
}

// privateChains are prompts of length blocks, the first ones everyone's, each with its endpoint.
func privateChains(endpoints, length, entries int) (prompts [][]hash) {
	shared := []hash{7}
	for i := range common {
		shared = append(shared, chain(shared[i], uint64(i)))
	}
	shared = shared[1:]
	for i := range max(1, entries/endpoints/(length-common)) {
		for e := range endpoints {
			prompt := slices.Clone(shared)
			for len(prompt) < length {
				n := (i*endpoints+e)*length + len(prompt)
				prompt = append(prompt, chain(prompt[len(prompt)-1], uint64(n)))
			}
			prompts = append(prompts, prompt)
		}
	}
	return prompts
}

func pod(endpoint int) []kvblock.PodEntry {
	return []kvblock.PodEntry{{PodIdentifier: "w" + strconv.Itoa(endpoint), DeviceTier: "gpu"}}
}

func row(bench, shape string, samples []float64, unit string) {
	slices.Sort(samples)
	fmt.Printf("%s\t%s\t%s\t%f\t%f\t%s\tlower\n",
		bench, shape, who, samples[0], samples[len(samples)/2], unit)
}

func heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

func newIndex() (*kvblock.InMemoryIndex, error) {
	return kvblock.NewInMemoryIndex(kvblock.DefaultInMemoryIndexConfig())
}

// chains measures stores, queries and removals on chains of length blocks.
func chains(ctx context.Context, endpoints, length, entries, queries, removals int) error {
	index, err := newIndex()
	if err != nil {
		return err
	}
	scorer, err := kvcache.NewKVBlockScorer(kvcache.DefaultKVBlockScorerConfig())
	if err != nil {
		return err
	}
	shape := fmt.Sprintf("%d x %d, %dM", endpoints, length, entries/1_000_000)
	prompts := privateChains(endpoints, length, entries)
	for i, prompt := range prompts {
		if i >= endpoints {
			prompt = prompt[common:] // an engine announces what it did not hold before
		}
		if err := index.Add(ctx, prompt, prompt, pod(i%endpoints)); err != nil {
			return err
		}
	}
	pods := sets.New[string]()
	for e := range endpoints {
		pods.Insert(pod(e)[0].PodIdentifier)
	}
	var asked []float64
	for q := range queries {
		prompt := prompts[q*7919%len(prompts)]
		start := time.Now()
		found, err := index.Lookup(ctx, prompt, pods)
		if err != nil {
			return err
		}
		scores, err := scorer.Score(ctx, prompt, found)
		if err != nil {
			return err
		}
		asked = append(asked, float64(time.Since(start).Nanoseconds()))
		if best := slices.Max(append([]float64{0}, values(scores)...)); int(math.Round(best)) != length {
			return fmt.Errorf("%v of %d blocks matched", best, length)
		}
	}
	row("match", shape, asked, "ns/query")
	if removals == 0 {
		return nil
	}
	start, removed := time.Now(), 0
	for i := len(prompts) - 1; i >= 0 && removed < removals; i-- {
		for b := length - 1; b >= common; b-- {
			if err := index.Evict(ctx, prompts[i][b], kvblock.EngineKey, pod(i%endpoints)); err != nil {
				return err
			}
			removed++
		}
	}
	each := float64(time.Since(start).Nanoseconds()) / float64(removed)
	row("remove one by one", fmt.Sprintf("%d x %d", endpoints, length), []float64{each}, "ns/block")
	return nil
}

func values(scores map[string]float64) (all []float64) {
	for _, score := range scores {
		all = append(all, score)
	}
	return all
}

// memory measures bytes a (block, holder), and the second holder's store.
func memory(ctx context.Context, entries int) error {
	prompts := privateChains(1, 450, entries)
	blocks := float64(common + len(prompts)*(450-common))
	before := heap()
	index, err := newIndex()
	if err != nil {
		return err
	}
	for endpoint := range 8 {
		start := time.Now()
		for _, prompt := range prompts {
			if err := index.Add(ctx, prompt, prompt, pod(endpoint)); err != nil {
				return err
			}
		}
		each := float64(time.Since(start).Nanoseconds()) / float64(len(prompts)*450)
		if endpoint == 1 {
			row("second holder's store", "450 blocks", []float64{each}, "ns/block")
		}
		if endpoint == 0 || endpoint == 7 {
			holders := float64(endpoint + 1)
			shape := map[int]string{0: "1 holder", 7: "8 holders"}[endpoint]
			row("memory", shape, []float64{(heap() - before) / blocks / holders}, "B/(block, holder)")
		}
	}
	runtime.KeepAlive(index)
	return nil
}

func main() {
	quick := flag.Bool("quick", false, "fewer blocks and queries")
	flag.Parse()
	ctrllog.SetLogger(logr.Discard()) // what it would log costs nothing here
	ctx := context.Background()
	queries, stored := 300, 400_000
	if *quick {
		queries, stored = 40, 60_000
	}
	for _, run := range []func() error{
		func() error { return memory(ctx, stored) },
		func() error { return chains(ctx, 8, 450, 1_000_000, queries, 20_000) },
		func() error {
			if *quick {
				return nil
			}
			return chains(ctx, 8, 2000, 1_000_000, queries, 0)
		},
	} {
		if err := run(); err != nil {
			log.Fatal(err)
		}
		runtime.GC()
	}
}
