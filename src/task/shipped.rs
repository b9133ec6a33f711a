//! The tasks that are in the binary: a new file of `tasks/` is one name here.

/// The shipped tasks: each name is a file of `tasks/`, embedded in the binary.
macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        /// The names of the shipped tasks, sorted.
        pub const SHIPPED: &[&str] = &[$($name),*];

        /// The text of a shipped task's file.
        pub fn shipped_yaml(name: &str) -> Option<&'static str> {
            match name {
                $($name => Some(include_str!(concat!("../../tasks/", $name, ".yaml"))),)*
                _ => None,
            }
        }
    };
}

shipped! {
    "arc_challenge", "arc_easy", "boolq", "commonsense_qa", "commonsense_qa_olmes", "gsm8k", "gsm8k_olmes",
    "hellaswag", "hellaswag_olmes", "lambada_openai", "lambada_openai_olmes", "mmlu", "nq_open", "openbookqa",
    "openbookqa_olmes", "piqa", "piqa_olmes", "sciq", "sciq_olmes", "social_iqa", "social_iqa_olmes",
    "truthfulqa_mc1", "truthfulqa_mc2", "wikitext", "winogrande",
}
