//! The program as people run it.

#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::process::{Command, Output};

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cluster-sim")).args(args).output().unwrap()
}

#[test]
fn json_has_the_promised_fields_and_is_the_same_every_time() {
    let args = ["cascade", "--seeds", "1", "--json"];
    let first = sim(&args);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    assert_eq!(first.stdout, sim(&args).stdout);
    let report: serde_json::Value = serde_json::from_slice(&first.stdout).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let p90 = |policy: &str| {
        let row = rows.iter().find(|r| r["policy"] == policy && r.get("qps").is_none()).unwrap();
        for field in ["out_tok_s", "ttft_mean_s", "itl_mean_s", "hit_rate"] {
            assert!(row[field].is_number(), "{field}");
        }
        row["ttft_p90_s"].as_f64().unwrap()
    };
    assert!(p90("tier-blind") > 3.0 * p90("tier-aware"), "the cascade happens");
}

#[test]
fn wrong_names_and_numbers_are_refused_with_advice() {
    for (args, says) in [
        (&["shootout", "lmd-affinity"][..], "llm-d-affinity"),
        (&["shootout", "random", "--workload", "chess"], "no workload is called `chess`"),
        (&["cascade", "--qps", "-1"], "-1"),
        (&["size", "--trace", "/no/such/file"], "/no/such/file"),
    ] {
        let out = sim(args);
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success(), "{args:?}");
        assert!(stderr.contains(says), "{args:?}: {stderr}");
    }
}
