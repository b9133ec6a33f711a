// Log-probabilities of given tokens in llama.cpp, through node-llama-cpp, with a float32 key/value cache.
//
//     node llama_cpp.mjs MODEL.gguf INPUT.json OUTPUT.json
//
// INPUT: {"text": "...", "tokens": [..]}. OUTPUT: {"tokens": llama.cpp's own tokens of the text,
// "log_probs": the log-probability of tokens[i + 1] after tokens[..i], "version": ..}. The package is searched in
// NODE_MODULES, or where node searches.

import {createRequire} from "node:module";
import {readFileSync, writeFileSync} from "node:fs";
import {join} from "node:path";
import {pathToFileURL} from "node:url";

const [model_path, input_path, output_path] = process.argv.slice(2);
const require = createRequire(join(process.env.NODE_MODULES ?? join(process.cwd(), "node_modules"), "x.js"));
const entry = require.resolve("node-llama-cpp");
const {getLlama} = await import(pathToFileURL(entry).href);

const {text, tokens} = JSON.parse(readFileSync(input_path, "utf8"));
const llama = await getLlama({gpu: false, build: "never", logLevel: "error"});
const model = await llama.loadModel({modelPath: model_path});
const context = await model.createContext({
    contextSize: tokens.length + 8,
    batchSize: tokens.length + 8,
    flashAttention: false,
    experimentalKvCacheKeyType: "F32",
    experimentalKvCacheValueType: "F32"
});
const input = tokens.slice(0, -1).map((token) => [token, {generateNext: {logits: true}}]);
const output = await context.getSequence().controlledEvaluate(input);
const log_probs = output.map(({next: {logits}}, i) => {
    let max = -Infinity;
    for (const logit of logits.values()) max = Math.max(max, logit);
    let sum = 0;
    for (const logit of logits.values()) sum += Math.exp(logit - max);
    return logits.get(tokens[i + 1]) - max - Math.log(sum);
});
writeFileSync(output_path, JSON.stringify({
    tokens: Array.from(model.tokenize(text)),
    log_probs,
    version: `node-llama-cpp, llama.cpp ${llama.llamaCppRelease?.release ?? "unknown"}`
}));
await llama.dispose();
