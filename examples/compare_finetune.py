"""Fine-tunes one model on one GLUE task with upstill and with `transformers`' Trainer, same settings, several seeds each, and
prints whether the scores agree within their spread (Welch's t test). Fails where one metric's p is below 0.01.

pip install torch transformers accelerate scikit-learn scipy
python examples/compare_finetune.py MODEL --task mrpc --data glue/ --seeds 5 --lr 3e-4
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import scipy.stats
import sklearn.metrics
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments, set_seed

# Folder, columns of the texts, column of the label; CoLA has no header, so its columns are numbers.
TASKS = {
    "cola": ("CoLA", [3], 1),
    "mrpc": ("MRPC", ["#1 String", "#2 String"], "Quality"),
    "sts-b": ("STS-B", ["sentence1", "sentence2"], "score"),
}
TOO_UNLIKELY = 0.01


def rows(path, task):
    _, texts, label = TASKS[task]
    with open(path, encoding="utf-8-sig", newline="") as file:
        read = csv.reader if task == "cola" else csv.DictReader
        number = float if task == "sts-b" else int
        return [([row[text] for text in texts], number(row[label])) for row in read(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


def metrics(task, outputs, truth):
    if task == "sts-b":
        scores = outputs[:, 0]
        return {"pearson": scipy.stats.pearsonr(scores, truth)[0], "spearman": scipy.stats.spearmanr(scores, truth)[0]}
    answers = outputs.argmax(1)
    if task == "cola":
        return {"matthews": sklearn.metrics.matthews_corrcoef(truth, answers)}
    return {"accuracy": sklearn.metrics.accuracy_score(truth, answers), "f1": sklearn.metrics.f1_score(truth, answers)}


def with_transformers(options, train, dev, seed):
    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    outputs = 1 if options.task == "sts-b" else 2
    model = AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=outputs)

    def encoded(examples):
        return [{**tokenizer(*texts, truncation=True, max_length=options.length), "label": label} for texts, label in examples]

    with tempfile.TemporaryDirectory() as scratch:
        settings = TrainingArguments(
            output_dir=scratch,
            learning_rate=options.lr,
            per_device_train_batch_size=options.batch,
            per_device_eval_batch_size=options.batch,
            num_train_epochs=options.epochs,
            lr_scheduler_type="linear",
            weight_decay=0.0,
            seed=seed,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        collate = DataCollatorWithPadding(tokenizer)
        trainer = Trainer(model, settings, data_collator=collate, train_dataset=encoded(train))
        trainer.train()
        predicted = trainer.predict(encoded(dev))
    return metrics(options.task, predicted.predictions, [label for _, label in dev])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a Hugging Face folder, as a run's model/")
    parser.add_argument("--task", choices=TASKS, default="mrpc")
    parser.add_argument("--data", type=Path, required=True, help="the folder with GLUE's official files")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--lr", type=float, default=2e-5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--upstill", default="target/release/upstill")
    parser.add_argument("--out", help="keep upstill's scores here; the same command finds them again")
    options = parser.parse_args()

    folder = options.data / TASKS[options.task][0]
    train, dev = rows(folder / "train.tsv", options.task), rows(folder / "dev.tsv", options.task)
    command = [options.upstill, "finetune", options.model, "--task", options.task, "--data", options.data, "--device", "cpu", "--json"]
    for name in ["seeds", "lr", "batch", "epochs", "length"]:
        command += [f"--{name}", getattr(options, name)]
    command += ["--out", options.out] if options.out else []
    ours = json.loads(subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE).stdout)["metrics"]
    theirs = [with_transformers(options, train, dev, seed) for seed in range(1, options.seeds + 1)]

    n, unlikely = options.seeds, False
    print(f"\n{options.task}: lr {options.lr:g}, batch {options.batch}, {options.epochs:g} epochs, {n} seeds each")
    print(f"{'metric':<10} {'upstill':<17} {'transformers':<17} {'difference':>10}  Welch's p")
    for metric, mine in ours.items():
        values = [seed[metric] for seed in theirs]
        mean, sd = statistics.mean(values), statistics.stdev(values)
        p = scipy.stats.ttest_ind_from_stats(mine["mean"], mine["sd"], n, mean, sd, n, equal_var=False).pvalue
        unlikely |= p < TOO_UNLIKELY
        both = f"{mine['mean']:.4f} ± {mine['sd']:.4f}   {mean:.4f} ± {sd:.4f}"
        print(f"{metric:<10} {both}   {mine['mean'] - mean:>+10.4f}  {p:.3f}")
    sys.exit(unlikely)


if __name__ == "__main__":
    main()
