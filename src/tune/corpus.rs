//! The training data of a run: documents on two sides, packed into sequences.

use std::ops::Range;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::tune::document::Document;
use crate::tune::sequence::Sequence;

/// How documents become a corpus.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusSettings {
    /// Tokens of a sequence at most.
    pub length: usize,
    /// Which share of the documents is held out, between 0 and 1.
    pub held_out: f64,
}

/// Sequences to learn from, and others to measure on. Neither depends on the order in which the documents came.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// The sequences to learn from.
    pub train: Vec<Sequence>,
    /// Those to measure on: no document of theirs is learned.
    pub held_out: Vec<Sequence>,
    /// BLAKE3 of all tokens, which of them are targets, and the settings: equal digests are the same data.
    pub digest: String,
    /// How it was made.
    pub settings: CorpusSettings,
    /// Documents to learn from.
    pub train_documents: usize,
    /// Documents held out.
    pub held_out_documents: usize,
    /// Documents of both sides that were longer than a sequence and were cut.
    pub cut_documents: usize,
}

impl Corpus {
    /// Divides documents by their keys, so that equal ones are on one side and more data moves none to the other; cuts
    /// those that are too long, and packs each side in the order of the keys, which mixes the sources. Documents without
    /// a target are left out. At least one document is held out and one is kept, whatever the share.
    ///
    /// # Errors
    /// `Invalid` for settings that cannot be, and when there are not two different documents.
    pub fn new(documents: Vec<Document>, settings: CorpusSettings) -> Result<Corpus> {
        let CorpusSettings { length, held_out } = settings;
        if length < 2 {
            return Err(Error::invalid("sequence length", length, "2 tokens or more, one to predict the next"));
        }
        if !(held_out > 0.0 && held_out < 1.0) {
            return Err(Error::invalid("held-out share", held_out, "more than 0 and less than 1"));
        }
        let (given, tokens) = (documents.len(), documents.iter().map(Document::len).sum::<usize>());
        let pieces = |document: Document| (document.key(), document.len() > length, document.pieces(length));
        let mut documents: Vec<([u8; 32], bool, Vec<Document>)> = documents.into_iter().map(pieces).collect();
        documents.retain(|(_, _, pieces)| !pieces.is_empty());
        // Equal tokens with other targets have equal keys; the pieces then make the order a full one.
        documents.sort_unstable();
        let keys: Vec<[u8; 32]> = documents.iter().map(|(key, _, _)| *key).collect();
        let Some(border) = border(&keys, held_out) else {
            let found = format!("no two different documents with a target (given: {given}, of {tokens} tokens)");
            let expected =
                "one to learn and one to hold out; give more data, or for a plain text a smaller sequence length";
            return Err(Error::invalid("training data", found, expected));
        };

        let cut_documents = documents.iter().filter(|(_, cut, _)| *cut).count();
        let mut sides = [Vec::new(), Vec::new()];
        let (held_out_documents, train_documents) = (border, documents.len() - border);
        for (place, (_, _, pieces)) in documents.into_iter().enumerate() {
            sides[usize::from(place >= border)].extend(pieces);
        }
        let [held_out, train] = sides.map(|pieces| Sequence::pack(pieces, length));
        let digest = digest([&train, &held_out], settings);
        Ok(Corpus { train, held_out, digest, settings, train_documents, held_out_documents, cut_documents })
    }

    /// In which order an epoch sees the training sequences: by the seed and the epoch's number alone, so that a resumed
    /// run needs no state.
    pub fn order(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(epoch);
        let mut order: Vec<usize> = (0..self.train.len()).collect();
        order.shuffle(&mut rng);
        order
    }

    /// The training sequences at some places of the epochs' orders, one epoch after the other.
    pub fn sequences(&self, seed: u64, places: Range<usize>) -> Vec<&Sequence> {
        let count = self.train.len();
        let mut known: Option<(usize, Vec<usize>)> = None;
        let mut chosen = Vec::with_capacity(places.len());
        for place in places {
            let epoch = place / count;
            if known.as_ref().is_none_or(|(known, _)| *known != epoch) {
                known = Some((epoch, self.order(seed, epoch as u64)));
            }
            let (_, order) = known.as_ref().expect("just made");
            chosen.push(&self.train[order[place % count]]);
        }
        chosen
    }

    /// Which part of the training sequences' room holds tokens, above 0 and at most 1.
    pub fn fill(&self) -> f64 {
        let tokens: usize = self.train.iter().map(Sequence::tokens).sum();
        tokens as f64 / (self.train.len() * self.settings.length) as f64
    }
}

/// How many of the sorted keys are held out: those in the first `share` of the key space, but at least the first key and
/// at most all but the last, which must be another.
fn border(keys: &[[u8; 32]], share: f64) -> Option<usize> {
    let (first, last) = (keys.first()?, keys.last()?);
    let leading = |key: &[u8; 32]| u64::from_be_bytes(std::array::from_fn(|place| key[place]));
    let border = keys.partition_point(|key| (leading(key) as f64) < share * 2f64.powi(64));
    let (least, most) = (keys.partition_point(|key| key <= first), keys.partition_point(|key| key < last));
    (least <= most).then(|| border.clamp(least, most))
}

fn digest(sides: [&[Sequence]; 2], settings: CorpusSettings) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut add = |number: u64| {
        hasher.update(&number.to_le_bytes());
    };
    add(settings.length as u64);
    add(settings.held_out.to_bits());
    for side in sides {
        add(side.len() as u64);
        for sequence in side {
            add(sequence.documents.len() as u64);
            for document in &sequence.documents {
                add(document.len() as u64);
                let pairs = document.tokens.iter().zip(&document.scored);
                pairs.for_each(|(&token, &scored)| add(u64::from(token) << 1 | u64::from(scored)));
            }
        }
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn settings(length: usize, held_out: f64) -> CorpusSettings {
        CorpusSettings { length, held_out }
    }

    /// A document that learns all of its tokens.
    fn document(tokens: impl IntoIterator<Item = u32>) -> Document {
        tokens.into_iter().map(|token| (token, true)).collect()
    }

    fn numbered(count: u32) -> Vec<Document> {
        (0..count).map(|number| document([number, number + 1, number + 2])).collect()
    }

    fn documents(sequences: &[Sequence]) -> Vec<Document> {
        let mut documents: Vec<Document> = sequences.iter().flat_map(|sequence| sequence.documents.clone()).collect();
        documents.sort();
        documents
    }

    #[test]
    fn about_the_asked_share_is_held_out_and_at_least_one() {
        let corpus = Corpus::new(numbered(1000), settings(64, 0.05)).unwrap();
        assert_eq!(corpus.held_out_documents + corpus.train_documents, 1000);
        // Binomial: 50 with a deviation of 7.
        assert!((29..=71).contains(&corpus.held_out_documents), "{}", corpus.held_out_documents);
        assert!(corpus.fill() > 0.96, "{}", corpus.fill());
        for share in [1e-9, 1.0 - 1e-9] {
            let corpus = Corpus::new(numbered(5), settings(3, share)).unwrap();
            let counts = [corpus.held_out_documents, corpus.train_documents];
            assert_eq!(counts, if share < 0.5 { [1, 4] } else { [4, 1] });
            assert_eq!([corpus.held_out.len(), corpus.train.len()], counts, "each fills a sequence");
            assert_eq!(corpus.fill(), 1.0);
        }
    }

    #[test]
    fn more_data_moves_no_document_to_the_other_side() {
        let few = Corpus::new(numbered(200), settings(3, 0.2)).unwrap();
        let many = Corpus::new(numbered(400), settings(3, 0.2)).unwrap();
        let many: BTreeSet<Document> = documents(&many.held_out).into_iter().collect();
        assert!(documents(&few.held_out).iter().all(|document| many.contains(document)));
        assert!(documents(&few.train).iter().all(|document| !many.contains(document)));
    }

    #[test]
    fn long_documents_are_cut_after_their_side_is_chosen() {
        let long = |start: u32| document(start..start + 10);
        let corpus = Corpus::new((0..8).map(|number| long(number * 10)).collect(), settings(4, 0.3)).unwrap();
        assert_eq!((corpus.cut_documents, corpus.train_documents + corpus.held_out_documents), (8, 8));
        let pieces = [documents(&corpus.train), documents(&corpus.held_out)];
        assert_eq!(pieces[0].len(), 3 * corpus.train_documents);
        let sources = pieces.map(|side| side.iter().map(|piece| piece.tokens[0] / 10).collect::<BTreeSet<u32>>());
        assert!(sources[0].is_disjoint(&sources[1]), "{sources:?}");
        assert!(corpus.train.iter().all(|sequence| sequence.tokens() <= 4 && sequence.targets() > 0));
    }

    #[test]
    fn too_little_data_is_refused_with_what_there_was() {
        let unlearned: Document = [(1, false), (2, false)].into_iter().collect();
        for (documents, found) in [
            (vec![], "0, of 0 tokens"),
            (numbered(1), "1, of 3 tokens"),
            ([numbered(1), numbered(1)].concat(), "2, of 6 tokens"),
            ([numbered(1), vec![unlearned]].concat(), "2, of 5 tokens"),
        ] {
            let error = Corpus::new(documents, settings(8, 0.05)).unwrap_err().to_string();
            let start =
                format!("training data: found no two different documents with a target (given: {found}), expected");
            assert!(error.starts_with(&start), "{error}");
            assert!(error.contains("give more data"), "{error}");
        }
        for (length, share, reason) in [
            (1, 0.1, "sequence length: found 1"),
            (8, 0.0, "held-out share: found 0"),
            (8, f64::NAN, "held-out share: found NaN"),
        ] {
            let error = Corpus::new(numbered(4), settings(length, share)).unwrap_err().to_string();
            assert!(error.starts_with(reason), "{error}");
        }
    }

    #[test]
    fn orders_are_permutations_that_differ_by_epoch_and_seed() {
        let corpus = Corpus::new(numbered(50), settings(3, 0.1)).unwrap();
        let order = corpus.order(1, 0);
        assert_eq!(order.iter().copied().collect::<BTreeSet<_>>().len(), corpus.train.len());
        assert_eq!(order.iter().max(), Some(&(corpus.train.len() - 1)));
        assert_eq!(order, corpus.order(1, 0));
        assert_ne!(order, corpus.order(1, 1));
        assert_ne!(order, corpus.order(2, 0));
    }

    #[test]
    fn the_digest_tells_other_data_and_other_settings() {
        let digest = |documents, settings| Corpus::new(documents, settings).unwrap().digest;
        let first = digest(numbered(20), settings(8, 0.1));
        let mut reversed = numbered(20);
        reversed.reverse();
        assert_eq!(first, digest(reversed, settings(8, 0.1)), "the order of the files does not count");
        let mut token = numbered(20);
        token[7].tokens[1] = 99;
        let mut flag = numbered(20);
        flag[7].scored[1] = false;
        let others =
            [(token, 8, 0.1), (flag, 8, 0.1), (numbered(21), 8, 0.1), (numbered(20), 9, 0.1), (numbered(20), 8, 0.11)];
        let mut digests: BTreeSet<String> =
            others.into_iter().map(|(documents, length, share)| digest(documents, settings(length, share))).collect();
        digests.insert(first);
        assert_eq!(digests.len(), 6);
    }

    fn any_document() -> impl Strategy<Value = Document> {
        // Few tokens and short documents, so that some are equal.
        prop::collection::vec((0..3u32, any::<bool>()), 0..9).prop_map(|pairs| pairs.into_iter().collect())
    }

    proptest! {
        #[test]
        fn every_document_is_packed_once_and_on_one_side(
            given in prop::collection::vec(any_document(), 0..40),
            length in 2usize..12,
            held_out in 0.01..0.99f64,
        ) {
            let Ok(corpus) = Corpus::new(given.clone(), settings(length, held_out)) else {
                let usable = given.iter().filter(|document| !document.pieces(length).is_empty());
                prop_assert!(usable.map(|document| &document.tokens).collect::<BTreeSet<_>>().len() < 2);
                return Ok(());
            };
            let mut expected: Vec<Document> = given.iter().flat_map(|document| document.pieces(length)).collect();
            expected.sort();
            let sides = [documents(&corpus.train), documents(&corpus.held_out)];
            let mut packed = sides.concat();
            packed.sort();
            prop_assert_eq!(packed, expected);
            for sequence in corpus.train.iter().chain(&corpus.held_out) {
                prop_assert!(sequence.tokens() <= length && sequence.targets() > 0);
            }
            prop_assert!(!corpus.train.is_empty() && !corpus.held_out.is_empty());
            prop_assert!(corpus.fill() > 0.0 && corpus.fill() <= 1.0);

            // Documents that were not cut are told apart by their tokens; pieces of several may be alike.
            if given.iter().all(|document| document.len() <= length) {
                let [train, held_out] = sides.map(|side| side.into_iter().map(|one| one.tokens).collect::<BTreeSet<_>>());
                prop_assert!(train.is_disjoint(&held_out));
            }
        }
    }
}
