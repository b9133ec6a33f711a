//! `--model`, `--device` and the cache: what several subcommands open alike.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Arg;
use criadero::arithmetic::Arithmetic;
use criadero::checkpoint::{Checkpoint, Lineage, LlamaConfig, Tokenizer, open_model};
use criadero::model::Llama;
use criadero::model::device::{DeviceKind, device_name, free_memory, open_device, open_devices};
use criadero::model::supernet::SupernetCard;
use criadero::plan::{Numbers, is_small_here};
use criadero::run::{never_ranked, quantized_twice, space_of};
use criadero::space::{Bits, BlockTypes, BlockWeights, Cost, Ends, Genome, ModelShape, SearchSpace};
use criadero::task::Task;

use super::phase::Phase;

/// Where to run.
#[derive(Clone, clap::Args)]
pub struct DeviceArgs {
    /// Device: `cpu`, `cuda` or `cuda:N`
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Numbers of weights and products on the CPU: `f32`, or `bf16`, which takes half the memory and is faster on CPUs with
    /// instructions for it. Cards compute in bf16
    #[arg(long, value_name = "f32|bf16", value_parser = not_int8)]
    arithmetic: Option<Arithmetic>,
}

/// An arithmetic for what learns, ranks or exports.
fn not_int8(text: &str) -> criadero::Result<Arithmetic> {
    match text.parse()? {
        Arithmetic::Int8 => {
            let expected = "f32 or bf16: int8 is for eval, search, generate, serve, measure and plan";
            Err(criadero::Error::invalid("arithmetic", "int8", expected))
        }
        other => Ok(other),
    }
}

/// The argument of a command that takes int8, too.
pub fn with_int8(arithmetic: Arg) -> Arg {
    let help = "Numbers of weights and products on the CPU: `f32`, `bf16`, which takes half the memory, or `int8`, bf16 with the layers' \
                products in int8. Each is faster than the one before on CPUs with instructions for it, and less exact. Cards compute in bf16";
    arithmetic.value_name("f32|bf16|int8").value_parser(|text: &str| text.parse::<Arithmetic>()).help(help)
}

impl DeviceArgs {
    /// What a model's numbers take there, whether or not there is such a device here.
    pub fn numbers(&self) -> Numbers {
        if self.is_card() { Numbers::Card } else { Numbers::Cpu(self.arithmetic.unwrap_or_default()) }
    }

    /// As it was given.
    pub fn name(&self) -> &str {
        &self.device
    }

    /// The arithmetic that was asked for.
    pub fn arithmetic(&self) -> Option<Arithmetic> {
        self.arithmetic
    }

    /// The flags that say the same, word by word.
    pub fn flags(&self) -> Vec<String> {
        let mut flags = if self.device == "cpu" { vec![] } else { vec!["--device".into(), self.device.clone()] };
        flags.extend(self.arithmetic.iter().flat_map(|arithmetic| ["--arithmetic".into(), arithmetic.to_string()]));
        flags
    }

    /// Whether a search may take another arithmetic than the other commands do.
    fn leaves_arithmetic_open(&self) -> bool {
        !self.is_card() && self.arithmetic.is_none()
    }

    /// Whether that is a card.
    pub fn is_card(&self) -> bool {
        self.device.starts_with("cuda")
    }

    /// The same where nothing that is reported hangs on the last digits: a CPU that has instructions for bfloat16 takes it, unless
    /// something else was asked for.
    pub fn fast(&self) -> DeviceArgs {
        match self.leaves_arithmetic_open() && Arithmetic::Bf16.is_native() {
            true => DeviceArgs { arithmetic: Some(Arithmetic::Bf16), ..self.clone() },
            false => self.clone(),
        }
    }

    /// The same for what writes: where the CPU has instructions for int8, and the memory for this model in it, that.
    pub fn fastest(&self, checkpoint: &Checkpoint) -> DeviceArgs {
        let is_native = self.leaves_arithmetic_open() && Arithmetic::Int8.is_native();
        match is_native && is_small_here(checkpoint, Arithmetic::Int8) {
            true => DeviceArgs { arithmetic: Some(Arithmetic::Int8), ..self.clone() },
            false => self.fast(),
        }
    }

    /// Bytes that are free on it, where it is a card that is here.
    pub fn free_memory(&self) -> Option<u64> {
        free_memory(self.open().ok()?.0)
    }

    /// The device and the kind of its weights.
    pub fn open(&self) -> criadero::Result<DeviceKind> {
        open_device(&self.device, self.arithmetic)
    }
}

/// Where to run, on one device or several.
#[derive(Clone, clap::Args)]
pub struct DevicesArgs {
    /// Devices that share the work: `cpu`, `cuda`, a list such as `cuda:0,cuda:1`, or `all` cards
    #[arg(long, value_name = "DEVICES", visible_alias = "device", default_value = "cpu")]
    devices: String,
    /// Numbers of weights and products on the CPU: `f32`, `bf16`, `int8`, which is bf16 with the layers' products in int8, or `auto`: f32,
    /// and in a new search int8 or bf16 where that is measured to be faster and to change scores less than the choice of the questions
    /// does. Fronts are measured in f32
    #[arg(long, value_name = "auto|f32|bf16|int8", default_value = "auto")]
    arithmetic: ArithmeticArg,
}

/// An arithmetic, or none in particular.
#[derive(Clone, Copy)]
struct ArithmeticArg(Option<Arithmetic>);

impl FromStr for ArithmeticArg {
    type Err = criadero::Error;

    fn from_str(text: &str) -> criadero::Result<ArithmeticArg> {
        match text {
            "auto" => Ok(ArithmeticArg(None)),
            _ => text.parse().map(|one| ArithmeticArg(Some(one))),
        }
    }
}

impl DevicesArgs {
    /// As it was given.
    pub fn list(&self) -> &str {
        &self.devices
    }

    /// The arithmetic that was asked for.
    pub fn arithmetic(&self) -> Option<Arithmetic> {
        self.arithmetic.0
    }

    /// A model on each of them, and beside it so many weights in blocks.
    pub fn load(&self, checkpoint: &Checkpoint, blocks: BlockWeights) -> anyhow::Result<Vec<Llama>> {
        let devices = open_devices(&self.devices, self.arithmetic())?;
        let load = |device| loaded(|| criadero::plan::load_beside_float32(checkpoint, device, blocks));
        devices.into_iter().map(load).collect()
    }
}

/// Opens a model by path, or the packaged one by name, and says what its files contradict themselves in.
pub fn open(model: &Path) -> criadero::Result<Checkpoint> {
    let checkpoint = open_model(model)?;
    checkpoint.notes().iter().for_each(|note| eprintln!("note: {}: {note}", checkpoint.path().display()));
    let LlamaConfig { shape, genome, dtype, .. } = checkpoint.config();
    let params = Cost::of(shape, genome).params;
    detail!(
        "opened {}: {params} parameters in {dtype:?}, {} bytes",
        checkpoint.path().display(),
        checkpoint.weight_bytes()
    );
    Ok(checkpoint)
}

/// Where a model comes from; says what its files say of that and cannot be read.
pub fn lineage_of(checkpoint: &Checkpoint) -> criadero::Result<Lineage> {
    let lineage = checkpoint.lineage()?;
    lineage.notes.iter().for_each(|note| eprintln!("note: {}: {note}", checkpoint.path().display()));
    Ok(lineage)
}

/// The configuration of a model that a space can be made for.
///
/// # Errors
/// Layers of different sizes, of which none is the widest.
pub fn whose_layers_are_alike<'a>(checkpoint: &'a Checkpoint, model: &Path) -> anyhow::Result<&'a LlamaConfig> {
    let config = checkpoint.config();
    if config.genome != config.shape.parent() {
        anyhow::bail!(
            "{}: its layers differ ({}), expected a model whose layers are alike",
            model.display(),
            config.genome
        );
    }
    Ok(config)
}

/// A model's tokenizer; says where its files disagree.
pub fn tokenizer_of(checkpoint: &Checkpoint) -> criadero::Result<Tokenizer> {
    let tokenizer = checkpoint.tokenizer()?;
    tokenizer.notes().iter().for_each(|note| eprintln!("note: {note}"));
    Ok(tokenizer)
}

/// Opens a space by name for the networks of a model, and says where that was never ranked.
pub fn open_space(name: &str, checkpoint: &Checkpoint) -> anyhow::Result<(SearchSpace, Option<SupernetCard>)> {
    let (space, card) = space_of(SearchSpace::open(name)?, checkpoint)?;
    if card.is_none() {
        eprintln!("note: {}", never_ranked(checkpoint));
    }
    Ok((space, card))
}

/// What lies before and behind the layers, all in these bits.
pub fn ends_in(shape: &ModelShape, bits: Bits) -> Ends {
    Ends { embedding: bits, head: if shape.tied { Bits::F16 } else { bits } }
}

/// Says in which types matrices are stored whose rows hold no whole blocks of the wanted one.
pub fn note_fallback(shape: &ModelShape, networks: &[Genome], layers: Bits, ends: Bits) {
    let stored = BlockTypes::of_networks(shape, networks);
    let of = |wanted: Bits, stored: BTreeSet<Bits>| stored.into_iter().map(move |bits| (wanted, bits));
    let pairs: BTreeSet<(Bits, Bits)> = of(layers, stored.layers).chain(of(ends, stored.ends)).collect();
    for (wanted, stored) in pairs.into_iter().filter(|(wanted, stored)| wanted != stored) {
        let [wanted, stored] = [wanted, stored].map(Bits::ggml);
        eprintln!("note: rows that hold no whole blocks of {wanted} are stored in {stored}, as llama.cpp does");
    }
}

/// Says that a quantized model is about to be quantized again.
pub fn note_quantized_twice(parent: &Checkpoint) {
    quantized_twice(parent).into_iter().for_each(|note| eprintln!("note: {note}"));
}

/// Loads a model onto its device.
pub fn load(checkpoint: &Checkpoint, device: &DeviceArgs) -> anyhow::Result<Llama> {
    load_for(checkpoint, device, &[])
}

/// Loads a model onto its device, and itself in float32 beside it where its numbers are others.
pub fn load_beside_float32(checkpoint: &Checkpoint, device: &DeviceArgs) -> anyhow::Result<Llama> {
    let device = device.open()?;
    loaded(|| criadero::plan::load_beside_float32(checkpoint, device, BlockWeights::default()))
}

/// Loads a model onto its device, to run these networks of it.
pub fn load_for(checkpoint: &Checkpoint, device: &DeviceArgs, networks: &[Genome]) -> anyhow::Result<Llama> {
    load_on(checkpoint, device.open()?, blocks_of(checkpoint.config(), networks))
}

/// What running these networks of a model keeps in blocks.
pub fn blocks_of<'a>(config: &LlamaConfig, networks: impl IntoIterator<Item = &'a Genome> + Clone) -> BlockWeights {
    BlockWeights::of_networks(&config.shape, &config.genome, networks)
}

/// Loads a model, with the kernels of its device, unless it is too large for it.
fn load_on(checkpoint: &Checkpoint, device: DeviceKind, blocks: BlockWeights) -> anyhow::Result<Llama> {
    loaded(|| criadero::plan::load(checkpoint, device, blocks))
}

/// Loads a model, and says what there is to say of it.
fn loaded(load: impl FnOnce() -> criadero::Result<(Llama, Option<String>)>) -> anyhow::Result<Llama> {
    let phase = Phase::begin("loading the model");
    let (model, note) = load()?;
    drop(phase);
    note.into_iter().for_each(|note| eprintln!("note: {note}"));
    detail!("device: {}", device_name(&model));
    Ok(model)
}

/// Has libtorch use so many threads.
pub fn set_threads(threads: usize) {
    detail!("libtorch threads: {threads}");
    tch::set_num_threads(threads as i32);
}

/// Where the tasks' data is.
#[derive(clap::Args)]
pub struct DataArgs {
    /// Directory of the tasks' data; by default the cache that `criadero fetch demo` fills
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl DataArgs {
    /// The directory.
    pub fn dir(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(assets)
    }

    /// The flags that say the same, word by word.
    pub fn flags(&self) -> Vec<String> {
        self.data.iter().flat_map(|dir| ["--data".to_string(), dir.display().to_string()]).collect()
    }

    /// Opens a task by name or path.
    pub fn task(&self, name: &str) -> criadero::Result<Task> {
        let task = Task::open(name, Some(&self.dir()))?;
        let data = || task.data().map_or("no data".to_string(), |data| data.path().display().to_string());
        detail!("task {}: {}", task.name(), data());
        Ok(task)
    }
}

/// Where downloaded models and data sets are.
pub fn assets() -> PathBuf {
    criadero::task::default_data_dir()
}
