//! The chain of networks, and the shares below which a question goes on, that answer most questions within a budget.

use super::answers::Answers;
use super::confidence::Confidence;
use super::costs::{Costs, SAME};

/// Thresholds of a network that are tried: quantiles of its shares.
const LEVELS: usize = 16;

/// Networks in the order in which they are asked, the cheapest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// Their places among the answers' networks.
    pub networks: Vec<usize>,
    /// Their temperatures.
    pub confidences: Vec<Confidence>,
    /// Of all but the last one the share below which a question goes on.
    pub thresholds: Vec<f64>,
}

/// What was found so far.
struct Best {
    right: f64,
    cost: f64,
    networks: Vec<usize>,
    /// Of all but the last one the number of its threshold.
    levels: Vec<usize>,
}

/// A network on some questions.
struct Column {
    confidence: Confidence,
    thresholds: Vec<f64>,
    /// 1 or 0.
    right: Vec<f64>,
    /// How many thresholds are not above its share.
    level: Vec<usize>,
}

impl Column {
    fn of(answers: &Answers, network: usize, questions: &[usize]) -> Column {
        let confidence = answers.confidence(network, questions);
        let answer = |&question: &usize| answers.answer(network, question, confidence);
        let (right, shares): (Vec<f64>, Vec<f64>) = questions.iter().map(answer).unzip();
        let mut sorted = shares.clone();
        sorted.sort_by(f64::total_cmp);
        let quantile = |level: usize| {
            let place = level * sorted.len() / LEVELS;
            f64::midpoint(sorted[place.saturating_sub(1)], sorted[place])
        };
        let mut thresholds: Vec<f64> = (1..LEVELS).map(quantile).collect();
        thresholds.dedup();
        let level = shares.iter().map(|share| thresholds.partition_point(|threshold| threshold <= share)).collect();
        Column { confidence, thresholds, right, level }
    }
}

/// The chain of at most three of the answers' networks that is right most often on `questions`, each counted as often as it stands there,
/// of those that cost no more than `most` a token on the mean; of equals the cheapest. `None` where every network costs more.
pub fn fit(answers: &Answers, costs: &Costs, most: f64, questions: &[usize]) -> Option<Chain> {
    let columns: Vec<Column> =
        (0..answers.scores.len()).map(|network| Column::of(answers, network, questions)).collect();
    let tokens: Vec<f64> = questions.iter().map(|&question| answers.tokens[question]).collect();
    let mut order: Vec<usize> = (0..columns.len()).collect();
    order.sort_by(|&a, &b| costs.of[a].total_cmp(&costs.of[b]));
    let total = tokens.iter().sum();
    let mut search = Search { costs, most, columns: &columns, tokens: &tokens, total, best: None };
    for (place, &first) in
        order.iter().enumerate().take_while(|(_, network)| costs.of[**network] <= most * (1.0 + SAME))
    {
        search.one(first);
        for (place, &second) in order.iter().enumerate().skip(place + 1) {
            search.two(first, second);
            order[place + 1..].iter().for_each(|&third| search.three(first, second, third));
        }
    }
    let Best { networks, levels, .. } = search.best?;
    let threshold = |(&network, &level): (&usize, &usize)| columns[network].thresholds[level];
    Some(Chain {
        thresholds: networks.iter().zip(&levels).map(threshold).collect(),
        confidences: networks.iter().map(|&network| columns[network].confidence).collect(),
        networks,
    })
}

struct Search<'a> {
    costs: &'a Costs,
    most: f64,
    columns: &'a [Column],
    tokens: &'a [f64],
    /// Of all questions.
    total: f64,
    best: Option<Best>,
}

impl Search<'_> {
    fn offer(&mut self, right: f64, cost: f64, networks: &[usize], levels: &[usize]) {
        if cost > self.most * (1.0 + SAME) {
            return;
        }
        let better = self.best.as_ref().is_none_or(|best| {
            right > best.right + SAME || (right > best.right - SAME && cost < best.cost * (1.0 - SAME))
        });
        if better {
            self.best = Some(Best { right, cost, networks: networks.to_vec(), levels: levels.to_vec() });
        }
    }

    fn one(&mut self, network: usize) {
        let right = self.columns[network].right.iter().sum();
        self.offer(right, self.costs.of[network], &[network], &[]);
    }

    /// What going on from the first to the second network brings and costs, by the first one's level.
    fn two(&mut self, first: usize, second: usize) {
        let [a, b] = [first, second].map(|network| &self.columns[network]);
        let mut gained = vec![[0.0; 2]; a.thresholds.len() + 1];
        for (question, tokens) in self.tokens.iter().enumerate() {
            let [right, read] = &mut gained[a.level[question]];
            *right += b.right[question] - a.right[question];
            *read += tokens;
        }
        let added = self.costs.added(&[first, second]);
        let (mut right, mut read) = (a.right.iter().sum::<f64>(), 0.0);
        for (level, [more, tokens]) in gained.iter().take(a.thresholds.len()).enumerate() {
            right += more;
            read += tokens;
            self.offer(right, self.costs.of[first] + added * read / self.total, &[first, second], &[level]);
        }
    }

    fn three(&mut self, first: usize, second: usize, third: usize) {
        let [a, b, c] = [first, second, third].map(|network| &self.columns[network]);
        let [to_second, to_third] = [self.costs.added(&[first, second]), self.costs.added(&[first, second, third])];
        // Of both levels: gained by the second network, gained by the third, tokens.
        let mut cells = [[[0.0; 3]; LEVELS]; LEVELS];
        for (question, tokens) in self.tokens.iter().enumerate() {
            let [second, third, read] = &mut cells[a.level[question]][b.level[question]];
            *second += b.right[question] - a.right[question];
            *third += c.right[question] - b.right[question];
            *read += tokens;
        }
        let (mut right, mut read) = (a.right.iter().sum::<f64>(), 0.0);
        // Of those that the first network hands on, by the second one's level.
        let mut handed = [[0.0; 2]; LEVELS];
        for (level, row) in cells.iter().take(a.thresholds.len()).enumerate() {
            for (handed, [second, third, tokens]) in handed.iter_mut().zip(row) {
                right += second;
                read += tokens;
                handed[0] += third;
                handed[1] += tokens;
            }
            let so_far = self.costs.of[first] + to_second * read / self.total;
            if so_far > self.most * (1.0 + SAME) {
                break;
            }
            let (mut right, mut read) = (right, 0.0);
            for (next, [more, tokens]) in handed.iter().take(b.thresholds.len()).enumerate() {
                right += more;
                read += tokens;
                self.offer(right, so_far + to_third * read / self.total, &[first, second, third], &[level, next]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two choices; `sure` is how far apart they are, below 0 where the network is wrong.
    pub(in crate::cascade) fn answers(sure: &[&[f64]]) -> Answers {
        let of = |sure: &&[f64]| sure.iter().map(|&sure| vec![sure, 0.0]).collect();
        Answers {
            scores: sure.iter().map(of).collect(),
            gold: vec![vec![0]; sure[0].len()],
            tokens: vec![10.0; sure[0].len()],
        }
    }

    fn costs(of: &[f64]) -> Costs {
        Costs { of: of.to_vec(), shared: vec![vec![0.0; of.len()]; of.len()] }
    }

    #[test]
    fn asks_the_larger_one_where_the_smaller_one_is_not_sure() {
        let (sure, unsure): (Vec<f64>, Vec<f64>) = ((0..8).map(|_| 6.0).collect(), vec![-0.1, 0.1, -0.2, -0.1]);
        let small = [sure, unsure].concat();
        let large = vec![5.0; 12];
        let answers = answers(&[&small, &large]);
        let questions: Vec<usize> = (0..12).collect();
        // The larger one alone costs too much; a third of the questions go to it.
        let chain = fit(&answers, &costs(&[1.0, 3.0]), 2.0, &questions).unwrap();
        assert_eq!(chain.networks, [0, 1]);
        let share = |question| answers.answer(0, question, chain.confidences[0]).1;
        assert!(share(0) >= chain.thresholds[0] && (8..12).all(|question| share(question) < chain.thresholds[0]));
        // With room for it the larger one alone is as right, and costs more.
        assert_eq!(fit(&answers, &costs(&[1.0, 3.0]), 3.0, &questions).unwrap().networks, [0, 1]);
        assert_eq!(fit(&answers, &costs(&[1.0, 3.0]), 1.0, &questions).unwrap().networks, [0]);
        assert_eq!(fit(&answers, &costs(&[1.0, 3.0]), 0.5, &questions), None);
    }

    #[test]
    fn three_networks_are_counted_as_when_they_are_asked_one_by_one() {
        // Drawn from a small generator: what matters is that they differ.
        let mut state = 1_u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1_u32 << 31) * 6.0 - 2.0
        };
        let networks: Vec<Vec<f64>> = (0..3).map(|_| (0..60).map(|_| draw()).collect()).collect();
        let answers = answers(&networks.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let costs = Costs {
            of: vec![1.0, 2.0, 4.0],
            shared: vec![vec![0.0, 0.5, 0.0], vec![0.5, 0.0, 1.0], vec![0.0, 1.0, 0.0]],
        };
        let questions: Vec<usize> = (0..60).chain(0..7).collect();
        let chain = fit(&answers, &costs, 3.4, &questions).unwrap();
        let (mut right, mut cost) = (0.0, 0.0);
        for &question in &questions {
            for (place, &network) in chain.networks.iter().enumerate() {
                cost += costs.added(&chain.networks[..=place]) / questions.len() as f64;
                let (hit, share) = answers.answer(network, question, chain.confidences[place]);
                if chain.thresholds.get(place).is_none_or(|&threshold| share >= threshold) {
                    right += hit;
                    break;
                }
            }
        }
        assert!(cost <= 3.4 + 1e-9, "{cost}");
        // No threshold of any pair does better.
        let columns: Vec<Column> = (0..3).map(|network| Column::of(&answers, network, &questions)).collect();
        let alone = |network: usize| columns[network].right.iter().sum::<f64>();
        assert!(right >= alone(0).max(alone(1)), "{right}");
        for (first, second) in [(0, 1), (0, 2), (1, 2)] {
            for threshold in &columns[first].thresholds {
                let (mut sum, mut paid) = (0.0, costs.of[first]);
                for (place, &question) in questions.iter().enumerate() {
                    let (hit, share) = answers.answer(first, question, columns[first].confidence);
                    let goes_on = share < *threshold;
                    sum += if goes_on { columns[second].right[place] } else { hit };
                    paid += if goes_on { costs.added(&[first, second]) / questions.len() as f64 } else { 0.0 };
                }
                assert!(sum <= right || paid > 3.4, "{first} and {second} at {threshold}: {sum} of {right} for {paid}");
            }
        }
    }
}
