//! The keys of `config.json` that say how many tokens attention sees, and in which layers.

use crate::checkpoint::config::SlidingWindow;
use crate::checkpoint::family::Family;
use crate::space::MAX_LAYERS;

/// First of Qwen's layers with a window where nothing is said.
const FIRST_LAYER: usize = 28;

/// All that a configuration says about windows.
pub(super) struct WindowKeys<'a> {
    /// `sliding_window`, or the family's where there is no such key.
    pub(super) width: Option<usize>,
    /// Whether the file itself says a width.
    pub(super) stated: bool,
    /// `use_sliding_window`.
    pub(super) used: Option<bool>,
    /// `max_window_layers`.
    pub(super) first: Option<usize>,
    /// `layer_types`.
    pub(super) kinds: Option<&'a [String]>,
    /// `num_hidden_layers`.
    pub(super) layers: usize,
}

impl WindowKeys<'_> {
    /// The window and the layers that have it: all of Mistral's, those that Qwen's keys name; LLaMA has none. Rules as in the
    /// configuration classes of transformers 5.23.
    pub(super) fn read(&self, family: Family, problems: &mut Vec<String>) -> Option<SlidingWindow> {
        if self.width == Some(0) {
            problems.push("sliding_window: found 0, expected null or at least 1".into());
        }
        let listed = match self.listed() {
            Ok(listed) => listed,
            Err(problem) => {
                problems.push(problem);
                return None;
            }
        };
        // A number of layers that no model has is refused elsewhere.
        let all = self.layers.min(MAX_LAYERS);
        let layers = match family {
            Family::Llama => {
                let used = self.stated || self.used == Some(true);
                if used || listed.is_some_and(|listed| listed.contains(&true)) {
                    problems
                        .push("sliding_window: found a window, expected null (llama has none; mistral does)".into());
                }
                return None;
            }
            Family::Mistral => {
                if listed.is_some_and(|listed| listed.iter().any(|&slides| slides != self.width.is_some())) {
                    problems
                        .push("layer_types: found another kind than sliding_window says, expected all layers with a window or, where it is null, none".into());
                }
                vec![true; all]
            }
            Family::Qwen2 | Family::Qwen3 => {
                let used = self.used.unwrap_or(false);
                let first = self.first.unwrap_or(FIRST_LAYER);
                let layers = listed.unwrap_or_else(|| (0..all).map(|layer| used && layer >= first).collect());
                if !used && layers.contains(&true) {
                    let expected = "use_sliding_window: true beside it";
                    problems.push(format!("layer_types: found sliding_attention, expected {expected}"));
                } else if self.width.is_none() && layers.contains(&true) {
                    problems.push("layer_types: found sliding_attention, expected a sliding_window beside it".into());
                }
                layers
            }
        };
        let width = self.width?;
        layers.contains(&true).then_some(SlidingWindow { width, layers })
    }

    /// Which layers `layer_types` gives a window.
    fn listed(&self) -> Result<Option<Vec<bool>>, String> {
        let Some(kinds) = self.kinds else { return Ok(None) };
        let slides = |kind: &String| match kind.as_str() {
            "sliding_attention" => Some(true),
            "full_attention" => Some(false),
            _ => None,
        };
        let listed: Option<Vec<bool>> = kinds.iter().map(slides).collect();
        let layers = self.layers;
        let expected = || format!("{layers} times `full_attention` or `sliding_attention`, one a layer");
        let listed = listed.filter(|listed| listed.len() == layers);
        listed.map(Some).ok_or_else(|| format!("layer_types: found {kinds:?}, expected {}", expected()))
    }
}
