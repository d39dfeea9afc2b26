//! Names of endpoints and adapters, and the dense ids the rest of kvsched counts by.

use kvsched_core::{EndpointId, Labels, LoraId};
use std::collections::BTreeMap;

/// Who is in the fleet: endpoint names to ids and back.
///
/// Ids are dense, and the ids of endpoints that left are given again. Two things keep a newcomer
/// from inheriting what its predecessor held: a leave returns the id only after the caller was
/// told which, so that it clears it everywhere ([`Registry::leave`]); and whoever keeps an id
/// for longer keeps an [`EndpointKey`], which stops resolving.
///
/// ```
/// use kvsched_index::{EndpointSpec, Registry};
///
/// let mut registry = Registry::new();
/// let a = registry.join(EndpointSpec::new("pod-a"))?;
/// assert_eq!(registry.find("pod-a", 0).map(|e| e.key()), Some(a));
///
/// registry.leave(a); // clear `a.id()` in the index and the history now
/// let b = registry.join(EndpointSpec::new("pod-b"))?;
/// assert_eq!(b.id(), a.id());
/// assert!(registry.get(a).is_none() && registry.get(b).is_some());
/// # Ok::<(), kvsched_index::RegistryError>(())
/// ```
#[derive(Debug, Default)]
pub struct Registry {
    slots: Vec<Slot>,
    names: BTreeMap<(String, u32), EndpointId>,
    free: Vec<EndpointId>,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    endpoint: Option<Endpoint>,
}

/// An endpoint's id together with which of its bearers is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointKey {
    id: EndpointId,
    generation: u32,
}

impl EndpointKey {
    /// The id, which may mean another endpoint by now.
    #[must_use]
    pub fn id(self) -> EndpointId {
        self.id
    }

    /// How many endpoints had this id before.
    #[must_use]
    pub fn generation(self) -> u32 {
        self.generation
    }
}

/// What an endpoint is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Prefill and decode.
    #[default]
    Both,
    /// Prefill alone; a decode endpoint takes over.
    Prefill,
    /// Decode of what was prefilled elsewhere.
    Decode,
    /// Encoding of multimodal inputs.
    Encode,
}

/// What is known of an endpoint when it joins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointSpec {
    /// The caller's name of the engine, such as its address or pod; not empty.
    pub name: String,
    /// Which data-parallel rank of it, 0 where there is only one.
    pub rank: u32,
    /// What it is for.
    pub role: Role,
    /// The model it serves; empty where the fleet has one.
    pub model: String,
    /// Everything else the caller's plugins read.
    pub labels: Labels,
}

impl EndpointSpec {
    /// Rank 0 of an engine that prefills and decodes.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Sets the data-parallel rank.
    #[must_use]
    pub fn rank(mut self, rank: u32) -> Self {
        self.rank = rank;
        self
    }

    /// Sets what it is for.
    #[must_use]
    pub fn role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// Sets the model.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = model.into();
        self
    }

    /// Sets the labels.
    #[must_use]
    pub fn labels(mut self, labels: Labels) -> Self {
        self.labels = labels;
        self
    }
}

impl From<&str> for EndpointSpec {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

/// An endpoint of the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    key: EndpointKey,
    spec: EndpointSpec,
}

impl Endpoint {
    /// Its id and generation.
    #[must_use]
    pub fn key(&self) -> EndpointKey {
        self.key
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> EndpointId {
        self.key.id
    }

    /// What it joined as.
    #[must_use]
    pub fn spec(&self) -> &EndpointSpec {
        &self.spec
    }
}

/// Why an endpoint could not join. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Nobody could find it again.
    #[error("an endpoint without a name")]
    Unnamed,
    /// It is there already. Let the old one leave first if it started anew: its blocks are gone.
    #[error("`{name}` rank {rank} is {id} already")]
    Taken {
        /// The name.
        name: String,
        /// The rank.
        rank: u32,
        /// The id it has.
        id: EndpointId,
    },
    /// Ids stop below `u16::MAX`.
    #[error("the fleet has {endpoints} endpoints, as many as there are ids")]
    Full {
        /// How many there are.
        endpoints: usize,
    },
}

impl Registry {
    /// An empty fleet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an endpoint; the lowest free id is its. O(log endpoints).
    ///
    /// # Errors
    ///
    /// If it has no name, is there already, or all 65,535 ids are taken.
    pub fn join(&mut self, spec: EndpointSpec) -> Result<EndpointKey, RegistryError> {
        if spec.name.is_empty() {
            return Err(RegistryError::Unnamed);
        }
        let name = (spec.name.clone(), spec.rank);
        if let Some(&id) = self.names.get(&name) {
            return Err(RegistryError::Taken { name: name.0, rank: name.1, id });
        }
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                let id = u16::try_from(self.slots.len()).ok().filter(|&id| id < u16::MAX);
                let full = RegistryError::Full { endpoints: self.slots.len() };
                let id = EndpointId(id.ok_or(full)?);
                self.slots.push(Slot::default());
                id
            }
        };
        let slot = &mut self.slots[id.index()];
        let key = EndpointKey { id, generation: slot.generation };
        slot.endpoint = Some(Endpoint { key, spec });
        self.names.insert(name, id);
        Ok(key)
    }

    /// Takes an endpoint out and frees its id. Returns who left, so that its id is cleared
    /// wherever it counts before another joins; `None` for one that has left already.
    pub fn leave(&mut self, key: EndpointKey) -> Option<EndpointSpec> {
        self.get(key)?;
        let slot = self.slots.get_mut(key.id.index())?;
        let Endpoint { spec, .. } = slot.endpoint.take()?;
        self.names.remove(&(spec.name.clone(), spec.rank));
        // An id whose generations are used up is never given again.
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            let at = self.free.partition_point(|&free| free > key.id);
            self.free.insert(at, key.id);
        }
        Some(spec)
    }

    /// The endpoint that `key` means; `None` once it has left, whoever has its id now.
    #[must_use]
    pub fn get(&self, key: EndpointKey) -> Option<&Endpoint> {
        self.by_id(key.id).filter(|e| e.key == key)
    }

    /// The endpoint that has `id` now.
    #[must_use]
    pub fn by_id(&self, id: EndpointId) -> Option<&Endpoint> {
        self.slots.get(id.index())?.endpoint.as_ref()
    }

    /// Rank `rank` of the engine of this name. O(log endpoints); allocates for the look-up.
    #[must_use]
    pub fn find(&self, name: &str, rank: u32) -> Option<&Endpoint> {
        self.by_id(*self.names.get(&(name.to_owned(), rank))?)
    }

    /// The endpoints by id.
    pub fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.slots.iter().filter_map(|slot| slot.endpoint.as_ref())
    }

    /// How many endpoints there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// Names of LoRA adapters and their dense ids, for requests and load reports to agree on.
///
/// ```
/// let mut loras = kvsched_index::LoraRegistry::new();
/// let sql = loras.intern("sql-adapter");
/// assert_eq!(loras.intern("sql-adapter"), sql);
/// assert_eq!(loras.name(sql), Some("sql-adapter"));
/// assert_eq!(loras.find("poet"), None);
/// ```
#[derive(Clone, Debug, Default)]
pub struct LoraRegistry {
    names: Vec<String>,
    ids: BTreeMap<String, LoraId>,
}

impl LoraRegistry {
    /// No adapters.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The id of `name`, a new one if it has none. Ids are for ever: intern what the fleet
    /// serves, not what requests ask for.
    pub fn intern(&mut self, name: &str) -> LoraId {
        if let Some(&id) = self.ids.get(name) {
            return id;
        }
        let id = LoraId(self.names.len() as u32);
        self.names.push(name.to_owned());
        self.ids.insert(name.to_owned(), id);
        id
    }

    /// The id of `name`, if it has one. Allocates nothing.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<LoraId> {
        self.ids.get(name).copied()
    }

    /// The name of `id`.
    #[must_use]
    pub fn name(&self, id: LoraId) -> Option<&str> {
        self.names.get(id.0 as usize).map(String::as_str)
    }

    /// How many adapters have an id.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refusals_say_why() {
        let mut r = Registry::new();
        assert_eq!(r.join(EndpointSpec::new("")), Err(RegistryError::Unnamed));
        let a = r.join(EndpointSpec::new("a").rank(1)).unwrap();
        let again = r.join(EndpointSpec::new("a").rank(1)).unwrap_err();
        assert_eq!(again.to_string(), "`a` rank 1 is endpoint 0 already");
        assert!(r.join(EndpointSpec::new("a").rank(2)).is_ok());
        assert_eq!(r.leave(a).map(|s| s.rank), Some(1));
        assert_eq!(r.leave(a), None);
    }

    #[test]
    fn ids_run_out_below_u16_max() {
        let mut r = Registry::new();
        for rank in 0..u32::from(u16::MAX) {
            r.join(EndpointSpec::new("a").rank(rank)).unwrap();
        }
        let full = r.join(EndpointSpec::new("b"));
        assert_eq!(full, Err(RegistryError::Full { endpoints: 65_535 }));
        let last = r.by_id(EndpointId(65_534)).unwrap().key();
        r.leave(last);
        assert_eq!(r.join(EndpointSpec::new("b")).unwrap().id(), EndpointId(65_534));
    }

    #[test]
    fn an_id_whose_generations_are_used_up_is_given_no_more() {
        let mut r = Registry::new();
        r.join(EndpointSpec::new("a")).unwrap();
        r.slots[0].generation = u32::MAX;
        let key = EndpointKey { id: EndpointId(0), generation: u32::MAX };
        r.slots[0].endpoint.as_mut().unwrap().key = key;
        r.leave(key);
        assert_eq!(r.join(EndpointSpec::new("b")).unwrap().id(), EndpointId(1));
        assert!(r.get(key).is_none());
    }

    proptest! {
        /// Joins and leaves in any order: keys of those who left never resolve, ids stay dense.
        #[test]
        fn equals_a_list(ops in prop::collection::vec((0..6u32, any::<bool>()), 0..100)) {
            let mut r = Registry::new();
            let mut there: Vec<(u32, EndpointKey)> = Vec::new();
            let mut left: Vec<EndpointKey> = Vec::new();
            for (rank, joins) in ops {
                let at = there.iter().position(|&(n, _)| n == rank);
                match (joins, at) {
                    (true, None) => {
                        let key = r.join(EndpointSpec::new("e").rank(rank)).unwrap();
                        let lowest = (0..).map(EndpointId)
                            .find(|id| there.iter().all(|(_, k)| k.id() != *id)).unwrap();
                        prop_assert_eq!(key.id(), lowest);
                        there.push((rank, key));
                    }
                    (true, Some(_)) => prop_assert!(r.join(EndpointSpec::new("e").rank(rank)).is_err()),
                    (false, Some(at)) => {
                        let (_, key) = there.swap_remove(at);
                        prop_assert_eq!(r.leave(key).map(|s| s.rank), Some(rank));
                        left.push(key);
                    }
                    (false, None) => prop_assert!(r.find("e", rank).is_none()),
                }
                prop_assert_eq!(r.len(), there.len());
                prop_assert_eq!(r.is_empty(), there.is_empty());
                prop_assert_eq!(r.iter().count(), there.len());
                prop_assert!(left.iter().all(|&k| r.get(k).is_none()));
                for &(rank, key) in &there {
                    prop_assert_eq!(r.find("e", rank).map(Endpoint::key), Some(key));
                    prop_assert_eq!(r.get(key).map(|e| e.spec().rank), Some(rank));
                }
            }
        }
    }
}
