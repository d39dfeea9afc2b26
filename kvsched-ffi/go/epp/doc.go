// Package epp plugs kvsched into the endpoint picker of the Gateway API Inference Extension (EPP,
// sigs.k8s.io/gateway-api-inference-extension v1.5.0). One plugin does it all:
//
//   - pod lifecycle: endpoints come and go with the framework's (as an extractor of an
//     endpoint-notification-source), and each one's ZMQ events are followed from then on;
//   - data preparation: every candidate gets the framework's own prefix-match attribute, exact, for our
//     scorer and whatever else consumes it;
//   - scorer: the share of the prompt that is cached, or the scores of one of kvsched's presets;
//   - PreRequest: the route is recorded, so that the prompt is expected there before the engine tells;
//   - response hooks: first tokens and ends feed the ledger of what is under way.
//
// Register makes it known to an EPP's main, in one line before its runner:
//
//	epp.Register()
//	runner.NewRunner().Run(ctrl.SetupSignalHandler())
//
// and its configuration names it like any other plugin:
//
//	plugins:
//	- type: kvsched-scorer
//	  parameters:
//	    engineVersion: 0.33.0     # of vLLM; leave it out for other engines, which are then known by tokens
//	    hashSeed: "0"             # its PYTHONHASHSEED
//	    blockSizeTokens: 16
//	    eventsPort: 5557
//	    replayPort: 5558
//	    tokenize: true            # asks an engine where nobody has tokenized the prompt
//	- type: endpoint-notification-source
//	- type: queue-scorer
//	schedulingProfiles:
//	- name: default
//	  plugins:
//	  - pluginRef: kvsched-scorer
//	    weight: 3
//	  - pluginRef: queue-scorer
//	    weight: 2
//	dataLayer:
//	  sources:
//	  - pluginRef: endpoint-notification-source
//	    extractors:
//	    - pluginRef: kvsched-scorer
//
// It takes the place of prefix-cache-scorer, whose approximation writes the same attribute: do not
// configure both.
//
// llmd.go has the same plugin with the signatures of llm-d's router as of August 2026, which replaces
// PrepareRequestData by Produce and drops CycleState. It is behind the build tag llmd_router, because
// that module cannot be had from where kvsched is tested: not verified here.
package epp
