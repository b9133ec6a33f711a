//! Instructions with their responses, in the prompt of Stanford Alpaca (Taori et al. 2023).

use crate::error::Result;
use crate::tune::part::Part;
use crate::tune::record::Record;

/// How a prompt begins, byte for byte as in `PROMPT_DICT` in `train.py` of github.com/tatsu-lab/stanford_alpaca.
const WITHOUT_INPUT: &str = "Below is an instruction that describes a task. Write a response that appropriately \
                             completes the request.";
/// The same for an instruction with an input.
const WITH_INPUT: &str = "Below is an instruction that describes a task, paired with an input that provides further \
                          context. Write a response that appropriately completes the request.";

/// The prompt and the response of a record with the field `instruction`, perhaps `input`, and its response in `answer`. An empty
/// or null input is none; Dolly (Databricks 2023) calls it `context`. The response follows the prompt's last colon at once, as it
/// does there.
pub fn parts(record: &Record, answer: &str) -> Result<[Part; 2]> {
    let instruction = record.text("instruction")?;
    let input = match record.optional_text("input")? {
        "" => record.optional_text("context")?,
        input => input,
    };
    let prompt = match input {
        "" => format!("{WITHOUT_INPUT}\n\n### Instruction:\n{instruction}\n\n### Response:"),
        input => {
            format!("{WITH_INPUT}\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:")
        }
    };
    Ok([Part::given(prompt), Part::learned(record.text(answer)?)])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tune::record::tests::record;

    #[test]
    fn prompts_are_those_of_stanford_alpaca() {
        let plain = "Below is an instruction that describes a task. Write a response that appropriately completes the \
                     request.\n\n### Instruction:\nAdd.\n\n### Response:";
        let with_input = "Below is an instruction that describes a task, paired with an input that provides further \
                          context. Write a response that appropriately completes the request.\n\n### Instruction:\n\
                          Add.\n\n### Input:\n1, 2\n\n### Response:";
        for (input, prompt) in [(json!(""), plain), (json!(null), plain), (json!("1, 2"), with_input)] {
            let record = record(json!({ "instruction": "Add.", "input": input, "output": " 3\n" }));
            assert_eq!(parts(&record, "output").unwrap(), [Part::given(prompt), Part::learned(" 3\n")]);
        }
        let dolly = record(json!({ "instruction": "Add.", "context": "1, 2", "response": "3" }));
        assert_eq!(parts(&dolly, "response").unwrap(), [Part::given(with_input), Part::learned("3")]);
        let record = record(json!({ "output": "3", "instruction": "Add." }));
        assert_eq!(parts(&record, "output").unwrap(), [Part::given(plain), Part::learned("3")]);
    }

    #[test]
    fn fields_that_are_no_text_are_named() {
        let error = |fields| parts(&record(fields), "output").unwrap_err().to_string();
        let text = error(json!({ "instruction": "Add.", "input": ["1"], "output": "3" }));
        assert_eq!(text, "a.jsonl: not a valid training data file: line 7: `input`: found a list, expected text");
        let text = error(json!({ "instruction": "Add.", "output": null }));
        assert!(text.ends_with("line 7: `output`: found null, expected text"), "{text}");
    }
}
