//! The throughput table of a run: one that was measured before, or a new one.

use std::path::PathBuf;

use super::progress::Progress;
use crate::error::{Error, Result};
use crate::eval::{Measured, Metric, Objective};
use crate::model::Llama;
use crate::space::SearchSpace;
use crate::throughput::{LatencyOptions, Phase, TableKey, ThroughputTable, key_here, measure_table};

/// Whence a run has its throughput table.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Measure and report throughput also when it is no objective.
    pub wanted: bool,
    /// A table that was measured before.
    pub file: Option<PathBuf>,
    /// Measure again where that table is of another device, model or version.
    pub remeasure: bool,
}

impl Tables {
    /// The table that these quantities need, if any: that of the file, or a new one of a prompt of 256 tokens, and where
    /// decoding is wanted one token behind 256.
    pub(super) fn table(
        &self,
        model_digest: &str,
        model: &Llama,
        space: &SearchSpace,
        threads: usize,
        quantities: &[Objective],
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<ThroughputTable>> {
        if !(self.wanted || self.file.is_some() || quantities.iter().any(Objective::needs_throughput)) {
            return Ok(None);
        }
        let decoding = quantities.iter().any(Objective::needs_decoding);
        let key = key_here(model, model_digest.to_string(), space, threads);
        let mut options = LatencyOptions::default();
        let alone = Phase::Decode { context: 256, sequences: 1 };
        if let Some(path) = &self.file {
            let table = ThroughputTable::read(path)?;
            let (largest, task) = (space.largest(), |_: Metric, _: &str| Ok(0.0));
            let measured = Measured { shape: space.shape(), genome: &largest, throughput: Some(&table), task: &task };
            let speeds = quantities.iter().filter(|quantity| quantity.needs_decoding());
            let lacks = speeds.map(|speed| speed.value(&measured)).any(|value| value.is_err());
            match table.check(path, &key) {
                Ok(()) if !lacks => return Ok(Some(table)),
                Ok(()) if !self.remeasure => {
                    let expected = "phases that the objectives need: prefill:N and decode:Nx1; measure again";
                    return Err(Error::invalid(path.display().to_string(), "a table that lacks phases", expected));
                }
                Err(error) if !self.remeasure => return Err(error),
                _ => options = table.options,
            }
            if lacks {
                options.phases.push(alone);
            }
        } else if decoding {
            options.phases.push(alone);
        }
        let table = measure_with_progress(model, space, options, key, on_progress)?;
        if let Some(path) = &self.file {
            table.write(path)?;
        }
        Ok(Some(table))
    }
}

/// Measures a table, and says how good it is.
///
/// # Errors
/// As [`measure_table`].
pub fn measure_with_progress(
    model: &Llama,
    space: &SearchSpace,
    options: LatencyOptions,
    key: TableKey,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<ThroughputTable> {
    if space.quantizes() {
        let products = if model.kernels().on_card() {
            "bfloat16 products on values that are kept, for Q8_0 made before each product, which is not timed"
        } else if model.is_int8() {
            "they are multiplied in bfloat16, more slowly than the int8 that is timed"
        } else {
            "products on values that are kept in the kind of the weights, as fast as unquantized ones"
        };
        on_progress(Progress::Note(format!("quantized networks are timed as unquantized ones: {products}")));
    }
    let timed = &mut |done, total| on_progress(Progress::Timed { done, total });
    let table = measure_table(model, space, options, key, timed)?;
    for phase in &table.phases {
        on_progress(Progress::Chosen(format!(
            "{}: mean error {:.1} % and Kendall tau {:.2} on {} networks it was not fitted to",
            phase.phase,
            100.0 * phase.mean_error(),
            phase.kendall_tau(),
            phase.checks.len()
        )));
    }
    Ok(table)
}
