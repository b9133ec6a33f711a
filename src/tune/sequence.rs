//! Sequences: what a model sees at once, several documents one after the other.

use std::collections::BTreeSet;

use crate::tune::document::Document;

/// Documents that are fed to the model together, each attending to itself alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    /// The documents.
    pub documents: Vec<Document>,
}

impl Sequence {
    /// How many tokens it has.
    pub fn tokens(&self) -> usize {
        self.documents.iter().map(Document::len).sum()
    }

    /// How many of them are predicted.
    pub fn targets(&self) -> usize {
        self.documents.iter().map(Document::targets).sum()
    }

    /// Packs documents into sequences of at most `length` tokens. Each goes, in the order given, where it leaves the
    /// least room, into a new sequence where it fits nowhere (best fit).
    ///
    /// # Panics
    /// When a document is longer.
    pub fn pack(documents: impl IntoIterator<Item = Document>, length: usize) -> Vec<Sequence> {
        let mut sequences: Vec<Sequence> = Vec::new();
        let mut open: BTreeSet<(usize, usize)> = BTreeSet::new(); // (tokens left, place of the sequence)
        for document in documents {
            let size = document.len();
            assert!(size <= length, "a document of {size} tokens for sequences of {length}");
            let (room, place) = match open.range((size, 0)..).next().copied() {
                Some(best) => {
                    open.remove(&best);
                    best
                }
                None => {
                    sequences.push(Sequence::default());
                    (length, sequences.len() - 1)
                }
            };
            sequences[place].documents.push(document);
            if room > size {
                open.insert((room - size, place));
            }
        }
        sequences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(token: u32, length: usize) -> Document {
        (0..length).map(|_| (token, true)).collect()
    }

    #[test]
    fn a_document_goes_where_it_leaves_the_least_room() {
        let documents = [6, 5, 8, 2, 3, 4, 10, 1].into_iter().enumerate();
        let sequences = Sequence::pack(documents.map(|(place, length)| document(place as u32, length)), 10);
        let lengths = |sequence: &Sequence| sequence.documents.iter().map(Document::len).collect::<Vec<_>>();
        let packed: Vec<Vec<usize>> = sequences.iter().map(lengths).collect();
        assert_eq!(packed, [vec![6, 3, 1], vec![5, 4], vec![8, 2], vec![10]]);
        assert_eq!((sequences[1].tokens(), sequences[1].targets()), (9, 7));
        assert_eq!(Sequence::pack([], 10), []);
    }

    #[test]
    #[should_panic(expected = "a document of 3 tokens for sequences of 2")]
    fn refuses_documents_that_are_too_long() {
        Sequence::pack([document(1, 3)], 2);
    }
}
