//! The same seed gives the same run, and the library's picture of the engines is exact.

#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use cluster_sim::cluster::{ClusterSpec, Run};
use cluster_sim::command::run_one;
use cluster_sim::policy::Policy;
use cluster_sim::scenario::{self, Scenario};
use cluster_sim::stats::{Slo, Summary};
use cluster_sim::workload::{Ladder, Workload, mix};

fn small(seed: u64) -> Workload {
    let stages = vec![(6.0, 10.0), (20.0, 10.0)];
    Ladder { customers: 30, users: 3, output_tokens: 150, stages, ..Ladder::default() }
        .workload(seed)
}

fn run(policy: &str, workload: &Workload, seed: u64) -> (Run, Summary) {
    let policy = Policy::by_name(policy).unwrap();
    let spec = ClusterSpec::published();
    let result = run_one(&spec, workload, &policy, Slo::default(), seed).unwrap();
    (result.run, result.total)
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    for policy in ["precise", "approximate", "llm-d-affinity", "random"] {
        let (first, _) = run(policy, &small(7), 7);
        let (again, _) = run(policy, &small(7), 7);
        assert_eq!(first.outcomes, again.outcomes, "{policy}");
        assert_eq!(first.samples, again.samples, "{policy}");
        let (other, _) = run(policy, &small(8), 8);
        assert_ne!(first.outcomes, other.outcomes, "{policy}");
    }
}

#[test]
fn every_job_is_answered_in_order_of_time() {
    for (name, _) in scenario::NAMES {
        let Scenario { spec, mut workload } = scenario::by_name(name, 3, 8).unwrap();
        // A few hundred jobs of each, cut where no conversation is.
        if workload.stages.len() == 1 {
            workload.jobs.truncate(400);
            workload.stages[0].jobs = 0..400;
        } else {
            continue;
        }
        for policy in ["llm-d", "cost"] {
            let policy = Policy::by_name(policy).unwrap();
            let result = run_one(&spec, &workload, &policy, Slo::default(), 3).unwrap();
            assert_eq!(result.total.requests, 400, "{name}");
            assert_eq!(result.run.lost_events, 0, "{name}");
            for o in &result.run.outcomes {
                assert!(o.sent < o.first_token && o.first_token <= o.done, "{name}: {o:?}");
            }
        }
    }
}

#[test]
fn prefixes_are_found_where_they_are_expected() {
    let (run, total) = run("precise", &small(1), 1);
    assert_eq!(run.lost_events, 0);
    assert!(total.hit_rate > 0.8, "{}", total.hit_rate);
    // Evictions within the events' delay are the only reason to be wrong.
    assert!(total.overestimated < 0.01, "{}", total.overestimated);
}

#[test]
fn where_nothing_is_shared_nothing_is_hit() {
    let (_, total) = run("llm-d", &mix::by_name("one-shot", 1).unwrap(), 1);
    assert_eq!(total.hit_rate, 0.0);
}
