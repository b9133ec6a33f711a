//! Files that are not what their names say: what stands in for a download that went wrong.

/// What a file that begins so is, where that is not `expected`; nothing where nothing speaks against it.
pub(super) fn other_than(bytes: &[u8], expected: &str) -> Option<String> {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(256)]);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let begins = |start: &str| text.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start));
    let (found, remedy) = if bytes.is_empty() {
        ("nothing, 0 bytes", "download it again")
    } else if begins("version https://git-lfs") {
        ("a git-lfs pointer, not the file itself", "fetch the file with `git lfs pull`")
    } else if begins("<!doctype") || begins("<html") || begins("<?xml") {
        ("a web page", "download the file itself (on the Hugging Face hub: `resolve` in its address, not `blob`)")
    } else if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x80\x02") || bytes.starts_with(b"\x80\x04") {
        ("a pickle of PyTorch", "load it with transformers and save_pretrained it as safetensors")
    } else if bytes.starts_with(b"GGUF") && expected != "GGUF" {
        ("a GGUF file", "give it by its own name, with the ending .gguf")
    } else if [b"lmgg", b"fmgg", b"tjgg", b"algg"].iter().any(|magic| bytes.starts_with(*magic)) {
        ("a file of ggml's from before GGUF", "convert it with llama.cpp's scripts, or take a newer file")
    } else if bytes.starts_with(b"\x1f\x8b") || bytes.starts_with(b"\x28\xb5\x2f\xfd") {
        ("a compressed file", "unpack it first")
    } else {
        return None;
    };
    Some(format!("found {found}, expected {expected}; {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_stands_in_for_a_file() {
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
        for (bytes, found) in [
            (pointer.as_bytes(), "git lfs pull"),
            (b"\n<!DOCTYPE html><html>".as_slice(), "a web page"),
            (b"<HTML>".as_slice(), "`resolve`"),
            (b"PK\x03\x04archive/data.pkl".as_slice(), "a pickle"),
            (b"GGUF\x03".as_slice(), "a GGUF file"),
            (b"tjgg".as_slice(), "before GGUF"),
            (b"".as_slice(), "0 bytes"),
        ] {
            let reason = other_than(bytes, "safetensors").unwrap();
            assert!(reason.contains(found) && reason.contains("expected safetensors"), "{reason}");
        }
        assert_eq!(other_than(b"GGUF\x03", "GGUF"), None);
        assert_eq!(other_than(b"{\"model_type\"", "JSON"), None);
        assert_eq!(other_than(b"\x10\0\0\0\0\0\0\0{}", "safetensors"), None);
    }
}
