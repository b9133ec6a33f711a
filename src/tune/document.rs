//! A training document: tokens, and which of them a model is to predict.

/// Tokens that follow each other, and for each whether a loss is taken on it.
///
/// Collected from pairs of both, so that there are as many flags as tokens. Nothing predicts the first token, which is
/// never a target whatever its flag was.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Document {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// For each token, whether it is a target.
    pub scored: Vec<bool>,
}

impl FromIterator<(u32, bool)> for Document {
    fn from_iter<I: IntoIterator<Item = (u32, bool)>>(pairs: I) -> Document {
        let (tokens, mut scored): (Vec<u32>, Vec<bool>) = pairs.into_iter().unzip();
        scored.iter_mut().take(1).for_each(|first| *first = false);
        Document { tokens, scored }
    }
}

impl Document {
    /// How many tokens it has.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// How many of its tokens are predicted.
    pub fn targets(&self) -> usize {
        self.scored.iter().skip(1).filter(|&&scored| scored).count()
    }

    /// The document in pieces of at most `length` tokens, in order, the last one shorter. A piece's first token is no
    /// target, and a piece without targets is left out: of a `length` under 2 nothing remains.
    pub fn pieces(&self, length: usize) -> Vec<Document> {
        let length = length.max(1);
        let pieces = self.tokens.chunks(length).zip(self.scored.chunks(length));
        let piece = |(tokens, scored): (&[u32], &[bool])| -> Document {
            tokens.iter().copied().zip(scored.iter().copied()).collect()
        };
        pieces.map(piece).filter(|piece| piece.targets() > 0).collect()
    }

    /// BLAKE3 of the tokens: equal texts have equal keys, whatever is a target in them.
    pub fn key(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for token in &self.tokens {
            hasher.update(&token.to_le_bytes());
        }
        hasher.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(pairs: &[(u32, u8)]) -> Document {
        pairs.iter().map(|&(token, scored)| (token, scored == 1)).collect()
    }

    #[test]
    fn the_first_token_is_never_a_target() {
        let all = document(&[(7, 1), (8, 1), (9, 0)]);
        assert_eq!(all.scored, [false, true, false]);
        assert_eq!((all.len(), all.targets()), (3, 1));
        assert_eq!((document(&[]).targets(), document(&[]).is_empty()), (0, true));
    }

    #[test]
    fn pieces_keep_flags_but_their_first_and_some_are_dropped() {
        let long = document(&[(1, 0), (2, 1), (3, 1), (4, 1), (5, 0), (6, 0), (7, 1), (8, 0), (9, 1), (10, 1)]);
        let pieces = [document(&[(1, 0), (2, 1)]), document(&[(3, 0), (4, 1)]), document(&[(9, 0), (10, 1)])];
        assert_eq!(long.pieces(2), pieces);
        assert_eq!(long.pieces(3), [document(&[(1, 0), (2, 1), (3, 1)]), document(&[(7, 0), (8, 0), (9, 1)])]);
        assert_eq!(long.pieces(10), std::slice::from_ref(&long));
        assert_eq!((long.pieces(1), long.pieces(0)), (vec![], vec![]));
    }

    #[test]
    fn keys_depend_on_the_tokens_alone() {
        let keys = [[(1, 0), (2, 0)], [(1, 0), (2, 1)], [(2, 0), (1, 0)]].map(|pairs| document(&pairs).key());
        assert_eq!(keys[0], keys[1]);
        assert_ne!(keys[0], keys[2]);
    }
}
