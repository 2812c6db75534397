//! From the scores of a binary classifier to what ONNX gives out: the probabilities of 0 and of 1.

use super::attributes::{Attributes, called};
use super::messages::Node;

/// What becomes of scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum After {
    /// Nothing.
    None,
    /// Each becomes 1 / (1 + e^-score).
    Logistic,
    /// Their exponentials, as shares of the sum.
    Softmax,
}

impl After {
    /// Reads `post_transform`.
    pub fn of(given: &Attributes) -> Result<After, String> {
        Ok(match given.only("post_transform", &["NONE", "LOGISTIC", "SOFTMAX"])? {
            "LOGISTIC" => After::Logistic,
            "SOFTMAX" => After::Softmax,
            _ => After::None,
        })
    }

    /// What is given out of the scores of 0 and of 1.
    pub fn apply(self, [zero, one]: [f32; 2]) -> [f32; 2] {
        match self {
            After::None => [zero, one],
            After::Logistic => [logistic(zero), logistic(one)],
            After::Softmax => {
                let most = zero.max(one);
                let (zero, one) = (libm::expf(zero - most), libm::expf(one - most));
                [zero / (zero + one), one / (zero + one)]
            }
        }
    }

    /// The log-odds before they become probabilities, where that is what they become: they tell rows apart
    /// where probabilities of 32 bits are all 1.
    pub fn log_odds(self, [zero, one]: [f32; 2]) -> Option<f64> {
        match self {
            After::None => None,
            After::Logistic => Some(f64::from(one)),
            After::Softmax => Some(f64::from(one) - f64::from(zero)),
        }
    }
}

/// As ONNX Runtime computes it.
pub fn logistic(x: f32) -> f32 {
    let v = 1.0 / (1.0 + libm::expf(-x.abs()));
    if x < 0.0 { 1.0 - v } else { v }
}

/// Refuses classes other than 0 and 1, in this order.
pub fn zero_and_one(node: &Node, labels: &[i64], words: &[Vec<u8>]) -> Result<(), String> {
    if labels == [0, 1] && words.is_empty() {
        return Ok(());
    }
    let found = match words.is_empty() {
        true => labels.iter().map(i64::to_string).collect::<Vec<_>>().join(", "),
        false => format!("{} texts", words.len()),
    };
    Err(format!("{} has the classes {found}: train on labels that are 0 and 1", called(node)))
}
