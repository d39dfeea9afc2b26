package main

/*
#cgo CFLAGS: -O2 -I${SRCDIR}/../native
#cgo LDFLAGS: ${SRCDIR}/../native/libkvsched_ffi.a
#cgo linux LDFLAGS: -lm -ldl -lpthread
#include "kvsched.h"
#include <time.h>

// A decision between one endpoint and no other, for a prompt of no tokens, `rounds` times from C.
static int64_t nanoseconds(int64_t rounds) {
	kvsched_hasher *hasher = NULL;
	kvsched_scheduler *scheduler = NULL;
	kvsched_scratch *scratch = NULL;
	kvsched_candidate candidate = {0};
	kvsched_request request = {0};
	kvsched_decision decision;
	kvsched_error error;
	kvsched_str none = {NULL, 0};
	struct timespec start, end;
	int64_t failures = 0, taken = -1;
	if (kvsched_hasher_new_vllm(kvsched_text("0.33.0"), kvsched_text("sha256"), none, 16, &hasher,
	                            NULL) == KVSCHED_STATUS_OK &&
	    kvsched_scheduler_new(hasher, NULL, &scheduler, NULL) == KVSCHED_STATUS_OK &&
	    kvsched_scratch_new(1, &scratch, NULL) == KVSCHED_STATUS_OK &&
	    kvsched_endpoint_add(scheduler, kvsched_text("a"), 0, &candidate.endpoint, NULL) ==
	        KVSCHED_STATUS_OK) {
		clock_gettime(CLOCK_MONOTONIC, &start);
		for (int64_t i = 0; i < rounds; i++) {
			failures += kvsched_route(scheduler, scratch, &request, NULL, 0, NULL, &candidate, 1, NULL, 0,
			                          &decision, NULL, 0, &error) != KVSCHED_STATUS_OK;
		}
		clock_gettime(CLOCK_MONOTONIC, &end);
		taken = (end.tv_sec - start.tv_sec) * 1000000000 + (end.tv_nsec - start.tv_nsec);
	}
	kvsched_scratch_free(&scratch);
	kvsched_scheduler_free(&scheduler);
	kvsched_hasher_free(&hasher);
	return failures ? -1 : taken;
}
*/
import "C"

import (
	"errors"
	"time"

	"kvsched.local/kvsched"
)

// called is how long the smallest decision takes when C asks for it, as a Rust program would.
func called(rounds int) (time.Duration, error) {
	taken := C.nanoseconds(C.int64_t(rounds))
	if taken < 0 {
		return 0, errors.New("a call from C failed")
	}
	return time.Duration(taken) / time.Duration(rounds), nil
}

// smallest is the same scheduler and request from Go.
func smallest() (*kvsched.Scheduler, *kvsched.Request, error) {
	hasher, err := kvsched.NewVLLMHasher(kvsched.VLLM{Version: "0.33.0"})
	if err != nil {
		return nil, nil, err
	}
	scheduler, err := kvsched.NewScheduler(hasher, kvsched.Options{})
	if err != nil {
		return nil, nil, err
	}
	endpoint, err := scheduler.AddEndpoint("a")
	return scheduler, &kvsched.Request{Candidates: []kvsched.Candidate{{Endpoint: endpoint}}}, err
}
