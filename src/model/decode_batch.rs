//! Sequences of one network that are written together, and come and go one by one.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::context::Context;
use super::generation::{check_prompt, ids_of};
use super::network::Network;
use super::weights::Llama;
use crate::error::{Error, Result};
use crate::space::Genome;

/// Room is made for so many tokens at a time.
const PLACES: i64 = 64;

/// Sequences of one network, of any lengths, in rows. Each step adds a token to all of them: matrices are read once for all.
/// What a sequence's logits are hangs on the others in the last digits only.
pub struct DecodeBatch {
    network: Network,
    rows: Rows,
}

/// Keys and values of all rows, each from its first place on.
struct Rows {
    /// Keys and values of each layer, (rows, places, k, e) each, so that a token's are beside each other; there may be more rows and places
    /// than are taken.
    layers: BTreeMap<usize, [Tensor; 2]>,
    /// Rows and places that there are.
    room: [i64; 2],
    /// Tokens of each sequence so far.
    lens: Vec<i64>,
    /// Tokens that each may have.
    most: Vec<i64>,
    /// The same for all layers of a step.
    step: OnceCell<Step>,
}

/// Where a step's tokens go.
struct Step {
    /// In each row, int64, (b)
    place: Tensor,
    /// Among all places of all rows, int64, (b)
    flat: Tensor,
    /// Tokens of the longest sequence with its new one.
    longest: i64,
    /// Whether all are as long.
    even: bool,
}

impl DecodeBatch {
    /// No sequences of a model's network yet.
    ///
    /// # Errors
    /// As [`Llama::network`].
    pub fn of(model: &Llama, genome: &Genome) -> Result<DecodeBatch> {
        let rows =
            Rows { layers: BTreeMap::new(), room: [0, 0], lens: Vec::new(), most: Vec::new(), step: OnceCell::new() };
        Ok(DecodeBatch { network: model.network(genome)?, rows })
    }

    /// Sequences that there are.
    pub fn len(&self) -> usize {
        self.rows.lens.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.lens.is_empty()
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> u64 {
        self.bytes_of(self.rows.room)
    }

    /// The same with a sequence more, of so many tokens at most.
    pub fn bytes_with(&self, tokens: usize) -> u64 {
        self.bytes_of(self.rows.room_for(self.len() as i64 + 1, tokens as i64))
    }

    /// Bytes of keys and values of the first sequence of a network, of so many tokens at most.
    pub fn first_bytes(model: &Llama, genome: &Genome, tokens: usize) -> u64 {
        tokens.next_multiple_of(PLACES as usize) as u64 * token_bytes(model, genome)
    }

    fn bytes_of(&self, [rows, places]: [i64; 2]) -> u64 {
        (rows * places) as u64 * token_bytes(self.network.parts().model(), self.network.genome())
    }

    /// Reads a prompt as one sequence more, the last row, with room for `more` tokens behind it: the logits of its next token, float32, (v).
    ///
    /// # Errors
    /// `Invalid` when the prompt is empty, the text would be longer than the model's positions, or has tokens that the model does not.
    pub fn join(&mut self, prompt: &[u32], more: usize) -> Result<Tensor> {
        let model = self.network.parts().model();
        check_prompt(model, prompt, more)?;
        let most = (prompt.len() + more) as i64;
        let mut cache = self.network.cache(1, prompt.len())?;
        let ids = ids_of(prompt, model.device()).unsqueeze(0); // (1, n)
        tch::no_grad(|| {
            let hidden = self.network.extend(&ids, &mut cache)?; // (n, d)
            let logits = self.network.logits(&hidden.narrow(0, hidden.size()[0] - 1, 1)).squeeze_dim(0); // (v)
            let row = self.len() as i64;
            self.rows.make_room(row + 1, most, cache.kept())?;
            for (layer, kept) in cache.kept() {
                for (room, new) in self.rows.layers[&layer].iter().zip(kept) {
                    room.narrow(0, row, 1).narrow(1, 0, prompt.len() as i64).copy_(&new.transpose(1, 2));
                }
            }
            self.rows.lens.push(prompt.len() as i64);
            self.rows.most.push(most);
            Ok(logits)
        })
    }

    /// Goes on with a token of each sequence, in the order of the rows: the logits of their next ones, float32, (b, v).
    ///
    /// # Errors
    /// `Invalid` for another number of tokens, and where a sequence has no room.
    pub fn push(&mut self, tokens: &[u32]) -> Result<Tensor> {
        if tokens.len() != self.len() {
            return Err(Error::invalid("tokens of a step", tokens.len(), format!("one a sequence, {}", self.len())));
        }
        let forward = self.network.parts();
        let ids = ids_of(tokens, forward.model().device()).unsqueeze(1); // (b, 1)
        tch::no_grad(|| {
            let hidden = forward.extend(self.network.genome(), &ids, &mut self.rows)?; // (b, d)
            Ok(self.network.logits(&hidden))
        })
    }

    /// Ends a sequence. The last row takes its place.
    ///
    /// # Errors
    /// libtorch's; nobody knows then what is in the batch.
    pub fn leave(&mut self, row: usize) -> Result<()> {
        self.rows.remove(row)
    }
}

/// Bytes of a token's keys and values.
fn token_bytes(model: &Llama, genome: &Genome) -> u64 {
    let shape = &model.config().shape;
    let kept = |heads: u32| 2 * (shape.kv_heads_of(heads as usize) * shape.head_dim) as u64;
    let numbers: u64 = genome.kept().map(|(_, gene)| kept(gene.heads)).sum();
    numbers * model.kind().elt_size_in_bytes() as u64
}

impl Rows {
    /// Rows and places for so many sequences, one of so many tokens.
    fn room_for(&self, rows: i64, tokens: i64) -> [i64; 2] {
        let [rows_now, places_now] = self.room;
        let rows = if rows <= rows_now { rows_now } else { rows.max(2 * rows_now) };
        [rows, places_now.max((tokens + PLACES - 1) / PLACES * PLACES)]
    }

    /// Sees to it that there is room; keys and values of one sequence say of which layers.
    fn make_room(&mut self, rows: i64, tokens: i64, like: impl Iterator<Item = (usize, [Tensor; 2])>) -> Result<()> {
        let room = self.room_for(rows, tokens);
        if room == self.room {
            return Ok(());
        }
        let (b, longest) = (self.lens.len() as i64, self.lens.iter().copied().max().unwrap_or(0));
        // All or none: there may not be so much memory.
        let mut layers = BTreeMap::new();
        for (layer, kept) in like {
            let larger = |place: usize| -> Result<Tensor> {
                let [_, k, _, e] = <[i64; 4]>::try_from(kept[place].size()).expect("keys have four dimensions");
                let new = Tensor::f_zeros([room[0], room[1], k, e], (kept[place].kind(), kept[place].device()))?;
                if let Some(old) = self.layers.get(&layer) {
                    let taken = |of: &Tensor| of.narrow(0, 0, b).narrow(1, 0, longest);
                    taken(&new).copy_(&taken(&old[place]));
                }
                Ok(new)
            };
            layers.insert(layer, [larger(0)?, larger(1)?]);
        }
        (self.layers, self.room) = (layers, room);
        Ok(())
    }

    fn remove(&mut self, row: usize) -> Result<()> {
        let last = self.lens.len() - 1;
        let len = self.lens[last];
        if row < last {
            for room in self.layers.values().flatten() {
                let of = |row: usize| room.narrow(0, row as i64, 1).narrow(1, 0, len);
                of(row).f_copy_(&of(last))?;
            }
        }
        self.lens.swap_remove(row);
        self.most.swap_remove(row);
        if self.lens.is_empty() {
            // Nobody keeps the room of the largest that ever were.
            (self.layers, self.room) = (BTreeMap::new(), [0, 0]);
        }
        Ok(())
    }

    fn step(&self, device: Device) -> &Step {
        self.step.get_or_init(|| {
            let longest = self.lens.iter().copied().max().unwrap_or(0);
            let flat: Vec<i64> = self.lens.iter().zip(0..).map(|(len, row)| row * self.room[1] + len).collect();
            Step {
                place: Tensor::from_slice(&self.lens).to_device(device),
                flat: Tensor::from_slice(&flat).to_device(device),
                longest: longest + 1,
                even: self.lens.iter().all(|&len| len == longest),
            }
        })
    }
}

impl Context for Rows {
    fn positions(&self, _: [i64; 2], device: Device) -> Result<Tensor> {
        match self.lens.iter().zip(&self.most).find(|(len, most)| len >= most) {
            Some((len, most)) => {
                let room = format!("{most} at most, the room that the sequence has");
                Err(Error::invalid("context", format!("{} tokens", len + 1), room))
            }
            None => Ok(self.step(device).place.shallow_clone()),
        }
    }

    fn attend(&mut self, layer: usize, [query, key, value]: [&Tensor; 3], window: Option<usize>) -> Tensor {
        let device = query.device();
        let [b, k, g, e] = <[i64; 4]>::try_from(query.size()).expect("queries have four dimensions");
        let Step { place, flat, longest, even } = self.step(device);
        let [keys, values] = &self.layers[&layer];
        let keep = |room: &Tensor, new: &Tensor| {
            let _ = room.view([-1, k, e]).index_copy_(0, flat, new); // (b, k, e)
            room.narrow(0, 0, b).narrow(1, 0, *longest).transpose(1, 2) // (b, k, s, e)
        };
        let (keys, values) = (keep(keys, key), keep(values, value));
        let window = window.map(|window| window as i64).filter(|window| window < longest);
        let seen = (!even || window.is_some()).then(|| {
            let column = Tensor::arange(*longest, (Kind::Int64, device)).unsqueeze(0); // (1, s)
            let place = place.unsqueeze(1); // (b, 1)
            let before = column.le_tensor(&place);
            let seen = match window {
                Some(window) => before.logical_and(&column.gt_tensor(&(&place - window))),
                None => before,
            };
            seen.view([b, 1, 1, *longest])
        });
        let out = Tensor::scaled_dot_product_attention(query, &keys, &values, seen, 0.0, false, None, false);
        out.reshape([b, k * g * e])
    }

    fn advance(&mut self, n: i64) {
        self.lens.iter_mut().for_each(|len| *len += n);
        self.step = OnceCell::new();
    }
}
