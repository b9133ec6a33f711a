//! One network of a front in Markdown: its held-out scores beside its parent's, and its place on the front.

use super::front::Against;
use super::units;
use crate::markdown::{code, table};
use crate::run::{Front, FrontPoint, HeldOut, placeless};

/// A section on a network of a front. `changes` are the flags that changed it after it was scored, `pictures` the files that show
/// the front.
pub fn standing(front: &Front, point: &FrontPoint, changes: &[&str], pictures: &[String]) -> String {
    let mut text = format!(
        "## Held-out scores\n\n{}\nOf items that the search never saw; each score has one standard error, and differences are paired: on the \
         same items.",
        scores(front, point)
    );
    if !changes.is_empty() {
        let flags: Vec<String> = changes.iter().map(|flag| code(flag)).collect();
        text += &format!(" The network was scored before {} changed it.", flags.join(" and "));
    }
    text += &format!("\n\n{}\n", place(front, point));
    for file in pictures {
        text += &format!("\n![Held-out scores of the front against {}]({file})\n", Against::size(front).axis());
    }
    text
}

/// A row a score; what guessing gets where that is known.
fn scores(front: &Front, point: &FrontPoint) -> String {
    let guessing = !front.chance.is_empty();
    let mut header = vec!["score", "items", "network", "parent", "difference"];
    header.extend(guessing.then_some("guessing"));
    let row = |(index, (ours, parents)): (usize, (&HeldOut, &HeldOut))| {
        let mut row = vec![
            code(&placeless(&ours.name)),
            ours.items.to_string(),
            units::with_error(ours.value, ours.stderr),
            units::with_error(parents.value, parents.stderr),
            units::signed_with_error(ours.delta, ours.delta_stderr),
        ];
        let chance = front.chance.get(index).filter(|_| ours.is_fraction());
        row.extend(guessing.then(|| chance.map_or(String::new(), |chance| format!("{chance:.3}"))));
        row
    };
    let pairs = point.held_out.iter().zip(&front.parent.held_out);
    table(&header, &pairs.enumerate().map(row).collect::<Vec<_>>())
}

/// Where the network is among the others of its front.
fn place(front: &Front, point: &FrontPoint) -> String {
    let size = Against::size(front);
    let smaller = front.points.iter().filter(|other| size.whole(other) < size.whole(point)).count();
    let knee = front.knee().is_some_and(|knee| front.points[knee].id == point.id);
    let mut text = format!(
        "It is network {} of the front, number {} of {} from the smallest on{}.",
        point.id,
        smaller + 1,
        front.points.len(),
        if knee { ", and the knee" } else { "" }
    );
    if point.dominated_on_held_out {
        text += " On held-out items another one of them is as good in every objective and better in one.";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn a_network_stands_beside_its_parent_and_among_the_others() {
        let (front, _) = fixture::run(4, 3);
        let expected = "\
## Held-out scores

| score | items | network | parent | difference | guessing |
| --- | --- | --- | --- | --- | --- |
| `accuracy:arc_easy` | 300 | 0.399 ± 0.028 | 0.510 ± 0.028 | -0.111 ± 0.015 | 0.250 |
| `choice_nll:arc_easy` | 300 | 1.231 ± 0.028 | 1.120 ± 0.028 | +0.111 ± 0.015 |  |

Of items that the search never saw; each score has one standard error, and differences are paired: on the same items.

It is network 2 of the front, number 2 of 3 from the smallest on, and the knee. On held-out items another one of them is as good in every \
objective and better in one.

![Held-out scores of the front against parameters](front.png)
";
        assert_eq!(standing(&front, &front.points[1], &[], &["front.png".into()]), expected);
        let changed = standing(&front, &front.points[0], &["--bits", "--dtype"], &[]);
        assert!(changed.contains("The network was scored before `--bits` and `--dtype` changed it.\n"), "{changed}");
        assert!(changed.contains("It is network 1 of the front, number 1 of 3 from the smallest on.\n"), "{changed}");
        assert!(!changed.contains("!["));
    }

    #[test]
    fn names_of_tasks_leave_no_cell() {
        let (mut front, _) = fixture::run(4, 3);
        for point in front.points.iter_mut().chain([&mut front.parent]) {
            point.held_out[0].name = "accuracy:/home/me/a|b\n# forged".into();
        }
        let text = standing(&front, &front.points[0], &[], &[]);
        assert!(
            text.lines().all(|line| !line.starts_with("# ")) && !text.contains("a|b") && !text.contains("home"),
            "{text}"
        );
    }
}
