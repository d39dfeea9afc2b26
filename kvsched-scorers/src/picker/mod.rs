//! Pickers: who gets the request, given everybody's score.

mod max_score;
mod power_of_two;
mod random;
mod round_robin;
mod softmax;
mod weighted_random;

pub use max_score::MaxScore;
pub use power_of_two::PowerOfTwo;
pub use random::Random;
pub use round_robin::RoundRobin;
pub use softmax::Softmax;
pub use weighted_random::WeightedRandom;
