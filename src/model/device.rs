//! Devices by name: `cpu`, `cuda`, `cuda:1`, lists of them, or `all` cards.

use tch::{Cuda, Device, Kind};

use super::Llama;
use crate::arithmetic::Arithmetic;
use crate::error::{Error, Result};
use crate::kernels::{card_memory, card_name};

/// A device and the kind of the weights on it.
pub type DeviceKind = (Device, Kind);

/// A device and the kind of its weights: on the CPU that of the arithmetic, by default float32; bfloat16 on CUDA.
///
/// # Errors
/// `Unknown`, with the devices that there are; `Invalid` for anything but bfloat16 on a card.
pub fn open_device(name: &str, arithmetic: Option<Arithmetic>) -> Result<DeviceKind> {
    let index = match name {
        "cpu" => return Ok((Device::Cpu, kind_of(arithmetic.unwrap_or_default()))),
        "cuda" => Some(0),
        other => other.strip_prefix("cuda:").and_then(|index| index.parse().ok()),
    };
    match index {
        Some(_) if let Some(other @ (Arithmetic::F32 | Arithmetic::Int8)) = arithmetic => {
            Err(Error::invalid("arithmetic", format!("{other} on {name}"), "bf16 or auto: cards compute in bfloat16"))
        }
        Some(index) if index < cards() => Ok((Device::Cuda(index), Kind::BFloat16)),
        _ => Err(unknown(name)),
    }
}

/// The kind of matrices in an arithmetic.
pub fn kind_of(arithmetic: Arithmetic) -> Kind {
    match arithmetic {
        Arithmetic::F32 => Kind::Float,
        Arithmetic::Bf16 => Kind::BFloat16,
        Arithmetic::Int8 => Kind::Int8,
    }
}

/// The arithmetic of matrices of a kind.
pub fn arithmetic_of(kind: Kind) -> Arithmetic {
    match kind {
        Kind::BFloat16 => Arithmetic::Bf16,
        Kind::Int8 => Arithmetic::Int8,
        _ => Arithmetic::F32,
    }
}

/// The devices of a list such as `cuda:0,cuda:1`, or of `all` cards, with the kinds that [`open_device`] gives them.
///
/// # Errors
/// `Unknown` for a device that is not there, `Invalid` for one that stands twice and for the CPU beside cards.
pub fn open_devices(list: &str, arithmetic: Option<Arithmetic>) -> Result<Vec<DeviceKind>> {
    let names = device_names(list)?;
    let devices: Vec<DeviceKind> = names.iter().map(|name| open_device(name, arithmetic)).collect::<Result<_>>()?;
    if let Some(place) = (0..devices.len()).find(|&place| devices[..place].contains(&devices[place])) {
        return Err(Error::invalid("devices", format!("`{}` twice in `{list}`", names[place]), "each device once"));
    }
    if devices.len() > 1 && devices.iter().any(|(device, _)| *device == Device::Cpu) {
        let expected = "cards alone or the CPU alone: the CPU's scores are not a card's";
        return Err(Error::invalid("devices", format!("`{list}`"), expected));
    }
    Ok(devices)
}

/// Bytes that are free on the card of a list that has the fewest; `None` without cards.
pub fn least_free_memory(list: &str) -> Option<u64> {
    let free = |name: &String| free_memory(open_device(name, None).ok()?.0);
    device_names(list).ok()?.iter().filter_map(free).min()
}

/// Bytes that are free on a card; `None` for the CPU.
pub fn free_memory(device: Device) -> Option<u64> {
    match device {
        Device::Cuda(card) => card_memory(card).map(|memory| memory.free),
        _ => None,
    }
}

/// What [`device_name`] adds where a CPU has no instructions for its arithmetic.
pub const EMULATED: &str = "emulated";

/// Device and kind of a model's weights, as results name them.
pub fn device_name(model: &Llama) -> String {
    let kind = if model.is_int8() { Kind::Int8 } else { model.kind() };
    let name = format!("{:?} {kind:?}", model.device()).to_lowercase();
    let emulated = model.device() == Device::Cpu && !arithmetic_of(kind).is_native();
    if emulated { format!("{name}, {EMULATED}") } else { name }
}

/// What chooses the code of a device's products, and so the last bits of its sums: the card, or the CPU's maker and instructions.
pub fn machine_of(device: Device) -> String {
    match device {
        Device::Cuda(card) => card_name(card).unwrap_or_else(|| format!("card {card}")),
        _ => cpu(),
    }
}

#[cfg(target_arch = "x86_64")]
fn cpu() -> String {
    use std::arch::x86_64::{__cpuid, __cpuid_count};

    let (maker, features) = (__cpuid(0), __cpuid_count(7, 0));
    let maker = [maker.ebx, maker.edx, maker.ecx].map(u32::to_le_bytes).concat();
    let matrices = |bit: u32| features.edx >> bit & 1 == 1;
    let instructions = [
        (is_x86_feature_detected!("avx2"), "avx2"),
        (is_x86_feature_detected!("avx512f"), "avx512f"),
        (is_x86_feature_detected!("avx512vnni"), "avx512vnni"),
        (is_x86_feature_detected!("avx512bf16"), "avx512bf16"),
        (is_x86_feature_detected!("avx512fp16"), "avx512fp16"),
        (matrices(22), "amx-bf16"),
    ];
    let there = instructions.into_iter().filter(|(there, _)| *there).map(|(_, name)| name.to_string());
    // What keeps libtorch and oneDNN from some of them.
    let kept = ["ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_CBWR"];
    let kept = kept.into_iter().filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?)));
    let maker = String::from_utf8_lossy(&maker).into_owned();
    std::iter::once(maker).chain(there).chain(kept).collect::<Vec<_>>().join(" ")
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu() -> String {
    std::env::consts::ARCH.to_string()
}

fn device_names(list: &str) -> Result<Vec<String>> {
    match list {
        "all" if cards() == 0 => Err(unknown(list)),
        "all" => Ok((0..cards()).map(|card| format!("cuda:{card}")).collect()),
        list => Ok(list.split(',').map(|name| name.trim().to_string()).collect()),
    }
}

/// CUDA cards that libtorch finds.
fn cards() -> usize {
    if Cuda::is_available() { Cuda::device_count() as usize } else { 0 }
}

fn unknown(name: &str) -> Error {
    let known = std::iter::once("cpu".to_string()).chain((0..cards()).map(|card| format!("cuda:{card}")));
    Error::unknown("device", name, known)
}
