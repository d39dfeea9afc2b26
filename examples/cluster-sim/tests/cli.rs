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
        let row = rows.iter().find(|r| r["policy"] == policy).unwrap();
        for field in ["qps", "seed", "out_tok_s", "ttft_mean_s", "itl_mean_s", "hit_rate"] {
            assert!(row[field].is_number(), "{field}");
        }
        row["ttft_p90_s"].as_f64().unwrap()
    };
    assert!(p90("tier-blind") > 3.0 * p90("tier-aware"), "the cascade happens");
    assert_eq!(rows.len(), 2, "one stage and one seed: a row a policy");
}

#[test]
fn a_size_keeps_the_level_with_every_seed() {
    let size = |seeds: &str, share: &str| {
        let out = sim(&[
            "size",
            "--workload",
            "burst",
            "--host-gb",
            "0",
            "--share",
            share,
            "--seeds",
            seeds,
            "--json",
        ]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        report["rows"].as_array().unwrap().clone()
    };
    let rows = size("3", "0.95");
    let sizes: Vec<u64> = rows.iter().map(|r| r["endpoints"].as_u64().unwrap()).collect();
    for row in &rows {
        assert_eq!((&row["policy"], &row["workload"]), (&"cost".into(), &"burst".into()));
        assert!(row["qps"].is_number() && row["ttft_mean_s"].is_number());
    }
    let least = |rows: &[serde_json::Value]| {
        rows.iter().map(|r| r["good_share"].as_f64().unwrap()).fold(1.0, f64::min)
    };
    for of_size in rows.chunks(3) {
        let seeds: Vec<_> = of_size.iter().map(|r| r["seed"].as_u64().unwrap()).collect();
        assert_eq!(seeds, [1, 2, 3]);
        assert!(of_size.iter().all(|r| r["endpoints"] == of_size[0]["endpoints"]));
        assert!(of_size.iter().all(|r| r["enough"] == (least(of_size) >= 0.95)));
    }
    let enough = |wanted: bool| {
        let of = rows.iter().zip(&sizes).filter(move |(r, _)| r["enough"] == wanted);
        of.map(|(_, &n)| n)
    };
    assert_eq!(enough(false).max().map(|n| n + 1), enough(true).min(), "{rows:?}");

    // A share that some seeds keep and others do not is not kept.
    let torn = rows.chunks(3).find(|r| {
        let most = r.iter().map(|r| r["good_share"].as_f64().unwrap()).fold(0.0, f64::max);
        least(r) < most
    });
    let torn = torn.unwrap();
    let share = least(torn) + 1e-6;
    let again = size("3", &share.to_string());
    let same = again.iter().filter(|r| r["endpoints"] == torn[0]["endpoints"]);
    assert!(same.clone().any(|r| r["good_share"].as_f64().unwrap() >= share), "one seed keeps it");
    assert!(same.clone().count() == 3 && same.clone().all(|r| r["enough"] == false), "{again:?}");
}

#[test]
fn what_cannot_be_simulated_is_refused_before_it_is_tried() {
    let dir = std::env::temp_dir().join(format!("cluster-sim-cli-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let traces = [
        ("broken.jsonl", r#"{"timestamp": 0, "input_length": 9"#, "line 1, column"),
        ("empty.jsonl", "", "no request in the trace"),
        (
            "ages.jsonl",
            concat!(
                r#"{"timestamp": 0, "input_length": 9, "output_length": 1, "hash_ids": [1]}"#,
                "\n",
                r#"{"timestamp": 1e300, "input_length": 9, "output_length": 1, "hash_ids": [1]}"#
            ),
            "days long, more than 30",
        ),
    ];
    for (name, content, says) in traces {
        let path = dir.join(name);
        std::fs::write(&path, content).unwrap();
        let out = sim(&["shootout", "random", "--seeds", "1", "--trace", path.to_str().unwrap()]);
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && stderr.contains(says), "{name}: {stderr}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn wrong_names_and_numbers_are_refused_with_advice() {
    for (args, says) in [
        (&["shootout", "lmd-affinity"][..], "llm-d-affinity"),
        (&["shootout", "random", "--workload", "chess"], "no workload is called `chess`"),
        (&["cascade", "--qps=-1"], "not a number from 0.1 to 100"),
        (&["cascade", "--qps", "1e9"], "not a number from 0.1 to 100"),
        (&["cascade", "--seeds", "1000000000000"], "1..=1000"),
        (&["paper", "--metrics-delay", "nan"], "not a number from 0 to 60"),
        (&["size", "--host-gb", "1e30"], "not a number from 0 to 10000"),
        (&["size", "--share", "2"], "not a number from 0 to 1"),
        (&["shootout", "--endpoints", "0"], "1..=4096"),
        (&["shootout", "random", "--workload", "chat", "--copies", "4000000000"], "requests, more"),
        (&["cascade", "--out", "/dev/null/here"], "--out /dev/null/here"),
        (&["size", "--trace", "/no/such/file"], "/no/such/file"),
    ] {
        let out = sim(args);
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success(), "{args:?}");
        assert!(stderr.contains(says), "{args:?}: {stderr}");
    }
}
