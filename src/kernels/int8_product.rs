//! Products of int8 numbers on the CPU: what enters a matrix is rounded row by row as it comes, the matrix once.
//!
//! Each [`MIX`] columns of both are multiplied by a Hadamard matrix, which changes no product and spreads what stands out (QuaRot, arXiv
//! 2404.00456). Then rows are cut into blocks of [`BLOCK`] columns with a scale each, the largest magnitude in 127ths. Sums of a block
//! are whole numbers, so nothing hangs on their order: results are the same bits on every CPU, with any number of threads, and for a row
//! alone or in company. The first rows and the first columns of a packed matrix are packed matrices too.

use std::ops::Range;

use half::bf16;
use tch::{Device, Kind, Tensor};

use super::cpu::{self, Element};

/// Columns that are mixed, a power of two. Rows are filled up to whole ones with zeros.
pub const MIX: usize = 64;
/// Columns that share a scale, of which the last block of a row may have fewer.
pub const BLOCK: usize = 256;

/// The largest whole number.
const MOST: f32 = 127.0;
/// A block whose largest value is below this is one of zeros: what it is divided by has a reciprocal.
const LEAST: f32 = 1e-30;
/// A column that rounding changes by more than this share of its norm is hidden by others; usually it is a hundredth.
const LOST: f64 = 0.125;
/// Columns that an instruction multiplies and adds up (VPDPBUSD of AVX-512 VNNI).
const GROUP: usize = 4;
/// Rows of the matrix that it does this for.
const LANES: usize = 16;
/// Bytes that it reads of the matrix: so many rows of a group.
const LINE: usize = LANES * GROUP;
/// Added to what is packed, which the instruction takes as unsigned.
const OFFSET: i32 = 128;
/// Rows of what is multiplied, and panels of [`LANES`] rows of the matrix, whose sums fill the registers.
const TILE: [usize; 2] = [6, 4];

/// A matrix (n, k) as int8.
pub struct PackedInt8 {
    /// (panels, groups, lanes, columns of a group), unsigned with the offset, filled up with zeros.
    packed: Tensor,
    /// (blocks, panels · lanes), float32
    scales: Tensor,
    rows: i64,
    columns: i64,
}

impl PackedInt8 {
    /// Packs a matrix (n, k) of floats on the CPU. `None` where rounding leaves little of it: some columns hide the others.
    pub fn of(matrix: &Tensor) -> Option<PackedInt8> {
        let matrix = matrix.to_kind(Kind::Float);
        let rounded = Int8Inputs::rounded::<f32>(&matrix);
        if !is_close(&rounded, &matrix) {
            return None;
        }
        let Int8Inputs { rows, columns, values, scales, .. } = rounded;
        let ((stride, blocks), panels) = (row_of(columns), rows.div_ceil(LANES));
        let mut packed = vec![OFFSET as u8; panels * LANES * stride];
        for (row, values) in values.chunks_exact(stride.max(1)).enumerate() {
            let lines = packed[row / LANES * LANES * stride..].as_chunks_mut::<LINE>().0;
            for (line, values) in lines.iter_mut().zip(values.as_chunks::<GROUP>().0) {
                let to = &mut line[row % LANES * GROUP..][..GROUP];
                for (to, value) in to.iter_mut().zip(values) {
                    *to = (i32::from(*value) + OFFSET) as u8;
                }
            }
        }
        let by_block = |block: usize| (0..panels * LANES).map(move |row| (row < rows).then_some(row * blocks + block));
        let scale = |at: Option<usize>| at.map_or(0.0, |at: usize| scales[at] / MIX as f32);
        let scales: Vec<f32> = (0..blocks).flat_map(by_block).map(scale).collect();
        let sizes = [panels, stride / GROUP, LANES, GROUP].map(|size| size as i64);
        let packed = Tensor::from_slice(&packed).view(sizes);
        let scales = Tensor::from_slice(&scales).view([blocks as i64, (panels * LANES) as i64]);
        Some(PackedInt8 { packed, scales, rows: rows as i64, columns: columns as i64 })
    }

    /// Handles of the same tensors.
    pub fn share(&self) -> PackedInt8 {
        PackedInt8 { packed: self.packed.shallow_clone(), scales: self.scales.shallow_clone(), ..*self }
    }

    /// `inputs` (t, k) times the first `rows` rows and the first k columns, transposed: (t, rows) bfloat16. Sums of blocks are added up in
    /// float32.
    ///
    /// # Panics
    /// Where the matrix has fewer rows or columns.
    pub fn product(&self, inputs: &Int8Inputs, rows: i64) -> Tensor {
        assert!(rows <= self.rows && inputs.columns as i64 <= self.columns, "{rows} rows of {}", self.rows);
        let out = Tensor::empty([inputs.rows as i64, rows], (Kind::BFloat16, Device::Cpu));
        if out.numel() == 0 {
            return out;
        }
        let (panels, groups) = ((rows as usize).div_ceil(LANES), self.packed.size()[1] as usize);
        // SAFETY: so many values lie there side by side, for as long as the tensors live.
        let (packed, scales) = unsafe {
            (
                std::slice::from_raw_parts(self.packed.data_ptr().cast::<u8>(), self.packed.numel()),
                std::slice::from_raw_parts(self.scales.data_ptr().cast::<f32>(), self.scales.numel()),
            )
        };
        let lanes = self.scales.size()[1] as usize;
        let room = Room { values: out.data_ptr().cast(), rows: rows as usize };
        let work = Work { packed, panel: groups * LINE, scales, lanes, inputs, room };
        let threads = tch::get_num_threads().max(1) as usize;
        let useful = (inputs.rows * inputs.columns * rows as usize / PRODUCTS_A_THREAD).clamp(1, threads);
        let band = panels.div_ceil(useful).next_multiple_of(TILE[1]);
        let bands = (0..panels).step_by(band).map(|first| first..panels.min(first + band));
        cpu::each(bands, |band| work.run(band));
        out
    }
}

/// Fewer products than this a thread, and waking it costs more than it gives.
const PRODUCTS_A_THREAD: usize = 1 << 19;

/// Numbers and scales of a row of so many columns.
fn row_of(columns: usize) -> (usize, usize) {
    (columns.next_multiple_of(MIX), columns.div_ceil(BLOCK))
}

/// Whether a matrix (n, k) has half of its columns within [`LOST`] of their norms when it is rounded: each of the mixed values by up to
/// half a scale, and what is mixed back by as much in all columns.
fn is_close(rounded: &Int8Inputs, matrix: &Tensor) -> bool {
    let (_, blocks) = row_of(rounded.columns);
    let mut squares = vec![0.0; blocks];
    for scales in rounded.scales.chunks_exact(blocks.max(1)) {
        squares.iter_mut().zip(scales).for_each(|(square, scale)| *square += f64::from(*scale).powi(2));
    }
    // The variance of what is as likely anywhere between two numbers, and a mixture's of MIX, divided by MIX.
    let lost = |column: usize| (squares[column / BLOCK] / (12 * MIX) as f64).sqrt();
    let norms = matrix.norm_scalaropt_dim(2, [0_i64].as_slice(), false); // (k)
    let norms = Vec::<f32>::try_from(norms).expect("one-dimensional floats");
    // What is no number is not close.
    let close = norms.iter().enumerate().filter(|&(column, norm)| lost(column) <= LOST * f64::from(*norm));
    2 * close.count() >= norms.len()
}

/// What is multiplied by matrices: (t, k) as int8.
pub struct Int8Inputs {
    rows: usize,
    columns: usize,
    /// (t, columns), mixed and filled up
    values: Vec<i8>,
    /// (t, blocks)
    scales: Vec<f32>,
    /// What the matrix's offset adds to the sums: (t, blocks)
    offsets: Vec<i32>,
}

impl Int8Inputs {
    /// Rounds rows (t, k) of bfloat16 on the CPU. Rows with a value that is not finite have scales that are not.
    pub fn of(inputs: &Tensor) -> Int8Inputs {
        Int8Inputs::rounded::<bf16>(inputs)
    }

    fn rounded<E: Element>(inputs: &Tensor) -> Int8Inputs {
        let inputs = inputs.contiguous();
        let (rows, columns) = inputs.size2().expect("rows of inputs");
        let (rows, columns) = (rows as usize, columns as usize);
        let (stride, blocks) = row_of(columns);
        let (mut values, mut scales, mut offsets) =
            (vec![0; rows * stride], vec![0.0; rows * blocks], vec![0; rows * blocks]);
        let band = cpu::rows_a_band(rows, columns);
        let all = cpu::values::<E>(&inputs).chunks((band * columns).max(1));
        let all = all.zip(values.chunks_mut((band * stride).max(1)));
        let all = all.zip(scales.chunks_mut((band * blocks).max(1)).zip(offsets.chunks_mut((band * blocks).max(1))));
        let parts =
            all.map(|((inputs, values), (scales, offsets))| Rounding { columns, inputs, values, scales, offsets });
        cpu::each(parts, Rounding::run);
        Int8Inputs { rows, columns, values, scales, offsets }
    }
}

/// Some rows that are rounded.
struct Rounding<'a, E> {
    columns: usize,
    inputs: &'a [E],
    values: &'a mut [i8],
    scales: &'a mut [f32],
    offsets: &'a mut [i32],
}

impl<E: Element> Rounding<'_, E> {
    fn run(self) {
        #[cfg(target_arch = "x86_64")]
        if has_vnni() {
            // SAFETY: the CPU has these instructions.
            return unsafe { self.run_avx512() };
        }
        self.rows::<Plain>();
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn run_avx512(self) {
        self.rows::<Avx512>();
    }

    #[inline(always)]
    fn rows<V: Vectors>(self) {
        let (stride, blocks) = row_of(self.columns);
        let rows = self.inputs.chunks_exact(self.columns).zip(self.values.chunks_exact_mut(stride));
        let facts = self.scales.chunks_exact_mut(blocks).zip(self.offsets.chunks_exact_mut(blocks));
        for ((inputs, values), (scales, offsets)) in rows.zip(facts) {
            let parts = inputs.chunks(BLOCK).zip(values.chunks_mut(BLOCK));
            for ((inputs, values), (scale, offset)) in parts.zip(scales.iter_mut().zip(offsets)) {
                let mut floats = [0.0; BLOCK];
                for (float, input) in floats.iter_mut().zip(inputs) {
                    *float = input.load();
                }
                let floats = &mut floats[..values.len()];
                floats.as_chunks_mut::<MIX>().0.iter_mut().for_each(V::mix);
                let largest = largest(floats);
                let factor = if largest < LEAST { 0.0 } else { MOST / largest };
                *scale = if largest < LEAST { 0.0 } else { largest / MOST };
                *offset = OFFSET * round(floats, factor, values);
            }
        }
    }
}

/// The largest magnitude; NaN where there is one.
#[inline(always)]
fn largest(values: &[f32]) -> f32 {
    // Magnitudes are in the order of their bits, infinity and NaN last.
    f32::from_bits(values.iter().fold(0, |most, value| most.max(value.to_bits() & 0x7fff_ffff)))
}

/// The nearest whole number of each value times `factor`, ties to even; gives their sum.
#[inline(always)]
fn round(floats: &[f32], factor: f32, values: &mut [i8]) -> i32 {
    /// Added to a small number, its integer part is in the last bits.
    const ROUND: f32 = 12_582_912.0;
    let mut sum = 0;
    for (float, value) in floats.iter().zip(values) {
        *value = (float * factor + ROUND).to_bits() as i8;
        sum += i32::from(*value);
    }
    sum
}

/// Where a product goes: (t, rows).
#[derive(Clone, Copy)]
struct Room {
    values: *mut bf16,
    rows: usize,
}

// SAFETY: threads write to columns of their own.
unsafe impl Sync for Room {}

/// A product to be made.
struct Work<'a> {
    packed: &'a [u8],
    /// Bytes of a panel.
    panel: usize,
    /// (blocks, lanes)
    scales: &'a [f32],
    lanes: usize,
    inputs: &'a Int8Inputs,
    room: Room,
}

impl Work<'_> {
    /// Makes what some panels give.
    fn run(&self, panels: Range<usize>) {
        #[cfg(target_arch = "x86_64")]
        if has_vnni() {
            // SAFETY: the CPU has these instructions.
            return unsafe { self.run_avx512(panels) };
        }
        self.tiles::<Plain>(panels);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn run_avx512(&self, panels: Range<usize>) {
        self.tiles::<Avx512>(panels);
    }

    #[inline(always)]
    fn tiles<V: Vectors>(&self, panels: Range<usize>) {
        for first in panels.clone().step_by(TILE[1]) {
            let count = TILE[1].min(panels.end - first);
            for row in (0..self.inputs.rows).step_by(TILE[0]) {
                match (TILE[0].min(self.inputs.rows - row), count == TILE[1]) {
                    (6, true) => self.tile::<V, 6, 4>(row, first),
                    (rows, true) => (row..row + rows).for_each(|row| self.tile::<V, 1, 4>(row, first)),
                    (6, false) => (first..first + count).for_each(|panel| self.tile::<V, 6, 1>(row, panel)),
                    (rows, false) => (row..row + rows)
                        .for_each(|row| (first..first + count).for_each(|panel| self.tile::<V, 1, 1>(row, panel))),
                }
            }
        }
    }

    /// `R` rows of inputs with `P` panels.
    #[inline(always)]
    fn tile<V: Vectors, const R: usize, const P: usize>(&self, row: usize, panel: usize) {
        let Int8Inputs { columns, ref values, ref scales, ref offsets, .. } = *self.inputs;
        let (stride, blocks) = row_of(columns);
        let mut sums: Sums<R, P> = [[[0.0; LANES]; P]; R];
        for block in 0..blocks {
            let groups = block * BLOCK / GROUP..((block + 1) * BLOCK).min(stride) / GROUP;
            let inputs: [&[i8]; R] =
                std::array::from_fn(|at| &values[(row + at) * stride..][groups.start * GROUP..groups.end * GROUP]);
            let lines: [&[u8]; P] = std::array::from_fn(|at| {
                &self.packed[(panel + at) * self.panel..][groups.start * LINE..groups.end * LINE]
            });
            let place = |at: usize| (row + at) * blocks + block;
            let facts = std::array::from_fn(|at| (offsets[place(at)], scales[place(at)]));
            let scales = std::array::from_fn(|at| {
                let first = block * self.lanes + (panel + at) * LANES;
                self.scales[first..first + LANES].first_chunk().expect("so many lanes")
            });
            V::add_dots(&mut sums, &Factors { inputs, facts, lines, scales });
        }
        for (at, sums) in sums.iter().enumerate() {
            for (which, sums) in sums.iter().enumerate() {
                let first = (panel + which) * LANES;
                let count = LANES.min(self.room.rows - first);
                let rounded = V::rounded(sums);
                // SAFETY: row and columns are inside (t, rows), and no other thread writes to these columns.
                unsafe {
                    let to = self.room.values.add((row + at) * self.room.rows + first);
                    std::ptr::copy_nonoverlapping(rounded.as_ptr(), to, count);
                }
            }
        }
    }
}

/// Sums of `R` rows of inputs with the lanes of `P` panels.
type Sums<const R: usize, const P: usize> = [[[f32; LANES]; P]; R];

/// A block of columns of rows of inputs and of panels, groups of columns side by side.
struct Factors<'a, const R: usize, const P: usize> {
    inputs: [&'a [i8]; R],
    /// What is taken away from each row's sums of whole numbers, and its scale.
    facts: [(i32, f32); R],
    lines: [&'a [u8]; P],
    /// Of each panel's lanes.
    scales: [&'a [f32; LANES]; P],
}

/// What vectors do; the same bits whatever they are.
trait Vectors {
    /// The product with a Hadamard matrix of ones and minus ones, each sum before the difference, the farthest pairs first.
    fn mix(values: &mut [f32; MIX]);

    /// Adds to `sums` the products of each row of inputs with each lane of each panel.
    fn add_dots<const R: usize, const P: usize>(sums: &mut Sums<R, P>, factors: &Factors<R, P>);

    /// The nearest bfloat16 of each value.
    fn rounded(values: &[f32; LANES]) -> [bf16; LANES];
}

/// In plain operations.
struct Plain;

impl Vectors for Plain {
    fn mix(values: &mut [f32; MIX]) {
        let mut distance = MIX / 2;
        while distance > 0 {
            let before = *values;
            for (place, value) in values.iter_mut().enumerate() {
                let (own, other) = (before[place], before[place ^ distance]);
                *value = if place & distance == 0 { own + other } else { other - own };
            }
            distance /= 2;
        }
    }

    fn add_dots<const R: usize, const P: usize>(sums: &mut Sums<R, P>, factors: &Factors<R, P>) {
        let Factors { inputs, facts, lines, scales } = *factors;
        for ((sums, inputs), (offset, scale)) in sums.iter_mut().zip(inputs).zip(facts) {
            for ((sums, lines), scales) in sums.iter_mut().zip(lines).zip(scales) {
                let mut dots = [-offset; LANES];
                for (group, line) in inputs.as_chunks::<GROUP>().0.iter().zip(lines.as_chunks::<LINE>().0) {
                    for (dot, weights) in dots.iter_mut().zip(line.as_chunks::<GROUP>().0) {
                        *dot += weights.iter().zip(group).map(|(&w, &x)| i32::from(w) * i32::from(x)).sum::<i32>();
                    }
                }
                for ((sum, dot), weight) in sums.iter_mut().zip(dots).zip(scales) {
                    *sum += dot as f32 * scale * weight;
                }
            }
        }
    }

    fn rounded(values: &[f32; LANES]) -> [bf16; LANES] {
        values.map(bf16::store)
    }
}

/// Whether the CPU has instructions for these products.
fn has_vnni() -> bool {
    #[cfg(target_arch = "x86_64")]
    return cpu::has_avx512() && is_x86_feature_detected!("avx512vnni");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// In instructions of AVX-512 and VNNI, for a CPU that has them: see [`has_vnni`].
#[cfg(target_arch = "x86_64")]
struct Avx512;

#[cfg(target_arch = "x86_64")]
impl Vectors for Avx512 {
    #[inline(always)]
    fn mix(values: &mut [f32; MIX]) {
        // SAFETY: the CPU has the instructions.
        unsafe { avx512::mix(values) }
    }

    #[inline(always)]
    fn add_dots<const R: usize, const P: usize>(sums: &mut Sums<R, P>, factors: &Factors<R, P>) {
        // SAFETY: as above.
        unsafe { avx512::add_dots(sums, factors) }
    }

    #[inline(always)]
    fn rounded(values: &[f32; LANES]) -> [bf16; LANES] {
        // SAFETY: as above.
        unsafe { avx512::rounded(values) }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use half::bf16;

    use super::{Factors, GROUP, LANES, LINE, MIX, Sums};

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn mix(values: &mut [f32; MIX]) {
        /// Lanes whose value is taken away from the one so far before it.
        const SECOND_OF: [__mmask16; 4] = [0xff00, 0xf0f0, 0xcccc, 0xaaaa];
        let at = values.as_mut_ptr();
        // SAFETY: there are four times sixteen values.
        let [a, b, c, d] = [0, 16, 32, 48].map(|first| unsafe { _mm512_loadu_ps(at.add(first)) });
        let [a, b, c, d] = [_mm512_add_ps(a, c), _mm512_add_ps(b, d), _mm512_sub_ps(a, c), _mm512_sub_ps(b, d)];
        let pairs = [_mm512_add_ps(a, b), _mm512_sub_ps(a, b), _mm512_add_ps(c, d), _mm512_sub_ps(c, d)];
        for (place, own) in pairs.into_iter().enumerate() {
            let joined = |own: __m512, other: __m512, second: __mmask16| {
                _mm512_mask_sub_ps(_mm512_add_ps(own, other), second, other, own)
            };
            let own = joined(own, _mm512_shuffle_f32x4::<0b01_00_11_10>(own, own), SECOND_OF[0]);
            let own = joined(own, _mm512_shuffle_f32x4::<0b10_11_00_01>(own, own), SECOND_OF[1]);
            let own = joined(own, _mm512_permute_ps::<0b01_00_11_10>(own), SECOND_OF[2]);
            let own = joined(own, _mm512_permute_ps::<0b10_11_00_01>(own), SECOND_OF[3]);
            // SAFETY: as above.
            unsafe { _mm512_storeu_ps(at.add(16 * place), own) };
        }
    }

    // Counted loops over arrays of known sizes: the sums stay in registers.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn add_dots<const R: usize, const P: usize>(sums: &mut Sums<R, P>, factors: &Factors<R, P>) {
        let Factors { inputs, facts, lines, scales } = *factors;
        let groups = inputs[0].len() / GROUP;
        assert!(
            inputs.iter().all(|one| one.len() == groups * GROUP) && lines.iter().all(|one| one.len() == groups * LINE)
        );
        let (inputs, lines) = (inputs.map(<[i8]>::as_ptr), lines.map(<[u8]>::as_ptr));
        let mut dots = [[_mm512_setzero_si512(); P]; R];
        for group in 0..groups {
            let mut weights = [_mm512_setzero_si512(); P];
            for panel in 0..P {
                // SAFETY: all panels have so many lines.
                weights[panel] = unsafe { _mm512_loadu_si512(lines[panel].add(group * LINE).cast()) };
            }
            for row in 0..R {
                // SAFETY: all inputs have so many groups.
                let columns = unsafe { inputs[row].add(group * GROUP).cast::<i32>().read_unaligned() };
                let columns = _mm512_set1_epi32(columns);
                for panel in 0..P {
                    dots[row][panel] = _mm512_dpbusd_epi32(dots[row][panel], weights[panel], columns);
                }
            }
        }
        for panel in 0..P {
            // SAFETY: there are so many lanes.
            let lanes = unsafe { _mm512_loadu_ps(scales[panel].as_ptr()) };
            for row in 0..R {
                let (offset, scale) = facts[row];
                let dots = _mm512_cvtepi32_ps(_mm512_sub_epi32(dots[row][panel], _mm512_set1_epi32(offset)));
                let scaled = _mm512_mul_ps(_mm512_mul_ps(dots, _mm512_set1_ps(scale)), lanes);
                let at = sums[row][panel].as_mut_ptr();
                // SAFETY: as above.
                unsafe { _mm512_storeu_ps(at, _mm512_add_ps(_mm512_loadu_ps(at), scaled)) };
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    pub(super) fn rounded(values: &[f32; LANES]) -> [bf16; LANES] {
        // SAFETY: there are so many lanes.
        let values = unsafe { _mm512_loadu_ps(values.as_ptr()) };
        let bits = _mm512_castps_si512(values);
        let upper = _mm512_srli_epi32::<16>(bits);
        let even = _mm512_and_si512(upper, _mm512_set1_epi32(1));
        let nearest = _mm512_add_epi32(bits, _mm512_add_epi32(even, _mm512_set1_epi32(0x7fff)));
        let nearest = _mm512_srli_epi32::<16>(nearest);
        let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(values, values);
        let nearest = _mm512_mask_or_epi32(nearest, is_nan, upper, _mm512_set1_epi32(0x40));
        let mut rounded = [bf16::ZERO; LANES];
        // SAFETY: there is room for 32 bytes.
        unsafe { _mm256_storeu_si256(rounded.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(nearest)) };
        rounded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The plain operations: the whole numbers of a matrix (n, k) whose columns are mixed and filled up, float32, and the scales of its blocks, (n, blocks).
    fn quantized(matrix: &Tensor) -> (Tensor, Tensor) {
        let (rows, columns) = matrix.size2().expect("a matrix");
        let filled = columns.unsigned_abs().next_multiple_of(MIX as u64) as i64;
        let blocks = filled.unsigned_abs().div_ceil(BLOCK as u64) as i64;
        let mixed = mixed(&matrix.constant_pad_nd([0, filled - columns]));
        let padded = mixed.constant_pad_nd([0, blocks * BLOCK as i64 - filled]).view([rows, blocks, BLOCK as i64]);
        let largest = padded.abs().amax([2], true); // (n, blocks, 1)
        let is_zero = largest.lt(f64::from(LEAST));
        // Not a number divided by a tensor: libtorch would multiply by the reciprocal.
        let factor = (largest.full_like(f64::from(MOST)) / &largest).masked_fill(&is_zero, 0.0);
        let quants = (padded * factor).round().view([rows, -1]).narrow(1, 0, filled);
        (quants, (largest / f64::from(MOST)).masked_fill(&is_zero, 0.0).squeeze_dim(2))
    }

    /// The plain operations: each [`MIX`] columns of (n, k) times the Hadamard matrix of ones and minus ones.
    fn mixed(matrix: &Tensor) -> Tensor {
        let mut mixed = matrix.shallow_clone();
        let mut distance = MIX as i64 / 2;
        while distance > 0 {
            let pairs = mixed.view([-1, 2, distance]);
            let (first, second) = (pairs.narrow(1, 0, 1), pairs.narrow(1, 1, 1));
            mixed = Tensor::cat(&[&first + &second, first - second], 1);
            distance /= 2;
        }
        mixed.view(matrix.size().as_slice())
    }

    /// The plain operations: `inputs` (t, k) times the whole `matrix` (n, k), transposed, in bfloat16.
    fn reference(inputs: &Tensor, matrix: &Tensor) -> Tensor {
        let float = |of: &Tensor| of.to_kind(Kind::Float);
        let ((inputs, input_scales), (matrix, scales)) = (quantized(&float(inputs)), quantized(&float(matrix)));
        let mut sums = Tensor::zeros([inputs.size()[0], matrix.size()[0]], (Kind::Float, Device::Cpu));
        for (block, part) in inputs.split(BLOCK as i64, 1).into_iter().enumerate() {
            let columns = matrix.narrow(1, (block * BLOCK) as i64, part.size()[1]);
            // Whole numbers below 2^24: float32 has them exactly.
            let dots = part.matmul(&columns.tr()); // (t, n)
            let scales = scales.narrow(1, block as i64, 1).tr() / MIX as f64;
            sums += dots * input_scales.narrow(1, block as i64, 1) * scales;
        }
        sums.to_kind(Kind::BFloat16)
    }

    fn random(rows: i64, columns: i64, seed: i64) -> Tensor {
        tch::manual_seed(seed);
        Tensor::randn([rows, columns], (Kind::Float, Device::Cpu)).to_kind(Kind::BFloat16)
    }

    #[test]
    fn products_are_those_of_the_plain_operations_bit_for_bit() {
        for [t, k, n] in
            [[1, 4, 16], [1, 576, 192], [7, 576, 70], [13, 130, 33], [6, 1536, 64], [20, 3, 5], [2, 1000, 100]]
        {
            let (inputs, matrix) = (random(t, k, t + k), random(n, k, n));
            let exact = inputs.to_kind(Kind::Float).matmul(&matrix.to_kind(Kind::Float).tr());
            let close = reference(&inputs, &matrix).to_kind(Kind::Float) - &exact;
            let error = close.norm().double_value(&[]) / exact.norm().double_value(&[]);
            assert!(error < 0.015, "{t} x {k} x {n}: {error}");
            // An outlier, a row of zeros, a part of a row of zeros.
            let _ = inputs.narrow(1, 0, 1).g_mul_scalar_(100.0);
            let _ = matrix.narrow(0, n / 2, 1).zero_();
            let _ = matrix.narrow(1, 0, k / 2).narrow(0, 0, 1).zero_();
            let product = PackedInt8::of(&matrix).unwrap().product(&Int8Inputs::of(&inputs), n);
            assert_eq!(product, reference(&inputs, &matrix), "{t} x {k} x {n}");
        }
    }

    #[test]
    fn vectors_do_what_plain_operations_do() {
        let lines: Vec<u8> = (0..4 * 6 * LINE as u32).map(|at| (at * at % 251) as u8).collect();
        let lines: [&[u8]; 4] = std::array::from_fn(|panel| &lines[panel * 6 * LINE..][..6 * LINE]);
        let inputs: [Vec<i8>; 6] = std::array::from_fn(|row| (0..24).map(|at| (at * 7 + row * 31) as i8).collect());
        let inputs = inputs.each_ref().map(Vec::as_slice);
        let scales = [[0.5_f32; LANES], [0.3; LANES], [7.0; LANES], [1e-3; LANES]];
        let dots = |vectors: fn(&mut Sums<6, 4>, &Factors<6, 4>)| {
            let mut sums = [[[1.5; LANES]; 4]; 6];
            let facts: [(i32, f32); 6] = std::array::from_fn(|row| (row as i32 * 1000, 0.1 + row as f32));
            vectors(&mut sums, &Factors { inputs, facts, lines, scales: scales.each_ref() });
            sums
        };
        let expected = dots(Plain::add_dots);
        let one: i32 =
            (0..24).map(|at| i32::from(inputs[1][at]) * i32::from(lines[2][at / 4 * LINE + 12 + at % 4])).sum();
        assert_eq!(expected[1][2][3], 1.5 + (one - 1000) as f32 * 1.1 * 7.0);
        let mut mixed: [f32; MIX] = std::array::from_fn(|at| (at as f32).sin());
        let before = Tensor::from_slice(&mixed);
        Plain::mix(&mut mixed);
        assert_eq!(Tensor::from_slice(&mixed), self::mixed(&before.view([1, -1])).view([-1]));
        let odd = [
            f32::NAN,
            f32::INFINITY,
            -0.0,
            1e-40,
            1.0,
            1.003_906_2,
            1.011_718_8,
            -3.4e38,
            0.1,
            2.0,
            3.0,
            4.0,
            5.0,
            6.0,
            7.0,
            8.0,
        ];
        #[cfg(target_arch = "x86_64")]
        if has_vnni() {
            assert_eq!(dots(Avx512::add_dots), expected);
            let mut other: [f32; MIX] = std::array::from_fn(|at| (at as f32).sin());
            Avx512::mix(&mut other);
            assert_eq!(other, mixed);
            let bits = |rounded: [bf16; LANES]| rounded.map(bf16::to_bits);
            assert_eq!(bits(Avx512::rounded(&odd)), bits(Plain::rounded(&odd)));
        }
    }

    #[test]
    fn narrower_products_are_prefixes_and_company_changes_nothing() {
        let (inputs, matrix) = (random(20, 600, 1), random(96, 600, 2));
        let packed = PackedInt8::of(&matrix).unwrap();
        let whole = packed.product(&Int8Inputs::of(&inputs), 96);
        for rows in [96, 64, 50, 1] {
            assert_eq!(packed.product(&Int8Inputs::of(&inputs), rows), whole.narrow(1, 0, rows));
        }
        for row in [0, 7, 19] {
            assert_eq!(packed.product(&Int8Inputs::of(&inputs.narrow(0, row, 1)), 96), whole.narrow(0, row, 1));
        }
        for columns in [130, 384, 577] {
            let narrow = inputs.narrow(1, 0, columns);
            let exact = narrow.to_kind(Kind::Float).matmul(&matrix.narrow(1, 0, columns).to_kind(Kind::Float).tr());
            let found = packed.product(&Int8Inputs::of(&narrow), 96).to_kind(Kind::Float);
            let error = (found - &exact).norm().double_value(&[]) / exact.norm().double_value(&[]);
            assert!(error < 0.015, "{columns} columns: {error}");
        }
        // Several threads round the rows and make the products.
        let many = random(200, 600, 6);
        let alone = |row| packed.product(&Int8Inputs::of(&many.narrow(0, row, 1)), 96);
        let rows: Vec<Tensor> = (0..200).map(alone).collect();
        assert_eq!(packed.product(&Int8Inputs::of(&many), 96), Tensor::cat(&rows, 0));
        // Whole blocks of columns have the scales of the matrix that ends there.
        let half = PackedInt8::of(&matrix.narrow(1, 0, 512)).unwrap();
        let narrow = Int8Inputs::of(&inputs.narrow(1, 0, 512));
        assert_eq!(packed.product(&narrow, 96), half.product(&narrow, 96));
        assert_eq!(packed.product(&Int8Inputs::of(&inputs.narrow(0, 0, 0)), 96).size(), [0, 96]);
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let inputs = random(3, 300, 3);
            let _ = inputs.narrow(0, 1, 1).narrow(1, 280, 1).fill_(bad);
            let product = PackedInt8::of(&random(20, 300, 4)).unwrap().product(&Int8Inputs::of(&inputs), 20);
            let finite = product.isfinite().all_dim(1, false);
            assert_eq!(Vec::<bool>::try_from(finite).unwrap(), [true, false, true], "{bad}");
        }
    }

    #[test]
    fn a_matrix_whose_columns_hide_others_is_not_packed() {
        for most in [1e4, f64::from(f32::MAX), f64::INFINITY, f64::NAN] {
            let matrix = random(20, 300, 5).to_kind(Kind::Float);
            let _ = matrix.narrow(1, 7, 1).fill_(most);
            // The second block has no such column, and is less than half of them.
            assert!(PackedInt8::of(&matrix).is_none(), "{most}");
        }
        let zeros = Tensor::zeros([20, 300], (Kind::Float, Device::Cpu));
        assert!(PackedInt8::of(&zeros).is_some());
    }
}
