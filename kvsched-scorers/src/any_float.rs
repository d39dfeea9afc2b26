//! Floats of any value as data: numbers where they are finite, and else the words `NaN`, `inf` and
//! `-inf`, which JSON has no numbers for.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum AnyFloat {
    Finite(f64),
    Other(String),
}

pub(crate) fn serialize<S: Serializer>(floats: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(
        floats.iter().map(|&x| {
            if x.is_finite() { AnyFloat::Finite(x) } else { AnyFloat::Other(x.to_string()) }
        }),
    )
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<f64>, D::Error> {
    let floats = Vec::<AnyFloat>::deserialize(deserializer)?;
    let read = |float| match float {
        AnyFloat::Finite(x) => Ok(x),
        AnyFloat::Other(word) => word.parse().map_err(serde::de::Error::custom),
    };
    floats.into_iter().map(read).collect()
}
