// The header in C++, and the shared library: one hit, from an event to a decision.
#include "kvsched.h"

#include "fixture.h"

#include <cstdio>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

template <typename Handle, kvsched_status (*Free)(Handle **)> struct Freed {
  void operator()(Handle *handle) const { Free(&handle); }
};
using Hasher = std::unique_ptr<kvsched_hasher, Freed<kvsched_hasher, kvsched_hasher_free>>;
using Scratch = std::unique_ptr<kvsched_scratch, Freed<kvsched_scratch, kvsched_scratch_free>>;
using Scheduler =
    std::unique_ptr<kvsched_scheduler, Freed<kvsched_scheduler, kvsched_scheduler_free>>;

static_assert(std::is_standard_layout<kvsched_decision>::value, "rows are plain data");

static void check(kvsched_status status, const kvsched_error &error) {
  if (status != KVSCHED_STATUS_OK) {
    throw std::runtime_error(std::string(error.text, error.len));
  }
}

int main() {
  try {
    kvsched_error error{};
    if (kvsched_abi() != KVSCHED_ABI) {
      throw std::runtime_error("the library has another interface than the header");
    }
    kvsched_hasher *hasher_handle = nullptr;
    check(kvsched_hasher_new_vllm(kvsched_text(FIXTURE_VERSION), kvsched_text(FIXTURE_ALGORITHM),
                                  kvsched_text(FIXTURE_SEED), FIXTURE_BLOCK, &hasher_handle,
                                  &error),
          error);
    const Hasher hasher(hasher_handle);
    kvsched_scheduler *scheduler_handle = nullptr;
    check(kvsched_scheduler_new(hasher.get(), nullptr, &scheduler_handle, &error), error);
    const Scheduler scheduler(scheduler_handle);
    kvsched_scratch *scratch_handle = nullptr;
    check(kvsched_scratch_new(1, &scratch_handle, &error), error);
    const Scratch scratch(scratch_handle);

    std::vector<kvsched_candidate> candidates(2);
    for (auto &candidate : candidates) {
      const auto name = "pod-" + std::to_string(&candidate - candidates.data());
      check(kvsched_endpoint_add(scheduler.get(), kvsched_text(name.c_str()), 0,
                                 &candidate.endpoint, &error),
            error);
    }
    unsigned hits = 0;
    for (const auto &step : STEPS) {
      if (step.payload != nullptr) {
        check(kvsched_ingest(scheduler.get(), candidates[1].endpoint, step.sequence, step.payload,
                             step.payload_len, 0, nullptr, &error),
              error);
      } else if (step.exact && step.cached > 0 && step.lora == nullptr && step.salt == nullptr &&
                 step.embeds == nullptr) {
        kvsched_request request{};
        kvsched_decision decision{};
        check(kvsched_route(scheduler.get(), scratch.get(), &request, step.tokens, step.tokens_len,
                            nullptr, candidates.data(), candidates.size(), nullptr, 0, &decision,
                            nullptr, 0, &error),
              error);
        if (decision.endpoint != candidates[1].endpoint ||
            decision.matched_blocks * FIXTURE_BLOCK != step.cached) {
          throw std::runtime_error(std::string(step.label) + ": the hit was missed");
        }
        hits++;
      }
    }
    if (hits == 0) {
      throw std::runtime_error("no hit in the recording");
    }
    try {
      check(kvsched_endpoint_add(scheduler.get(), kvsched_text("pod-0"), 0, &candidates[0].endpoint,
                                 &error),
            error);
      throw std::logic_error("two endpoints of one name");
    } catch (const std::runtime_error &taken) {
      std::printf("%u hits; %s\n", hits, taken.what());
    }
    return 0;
  } catch (const std::exception &e) {
    std::printf("%s\n", e.what());
    return 1;
  }
}
