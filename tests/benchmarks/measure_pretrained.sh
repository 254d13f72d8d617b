#!/bin/bash
# Measure the pretrained lesion model as docs/model_card.md says.
#
#     tests/benchmarks/measure_pretrained.sh HEADS MASKS HEALTHY
#
# HEALTHY is a folder of T1s of healthy heads.
set -eu
material="--heads $1 --masks $2"
conditions="mixed plain bias double_noise half_noise thick stripped"
# shellcheck disable=SC2086
for scanner in $conditions; do
  case $scanner in mixed|plain|thick) scans=60 ;; *) scans=20 ;; esac
  strokelesion synthesize $material --scanner "$scanner" --num_workers 2 \
    --synthetic_scans $scans --output_dir "runs/qc/scans/$scanner"
done
# shellcheck disable=SC2086
strokelesion synthesize $material --generator shifted --num_workers 2 --synthetic_scans 60 --output_dir runs/qc/scans/shifted
# shellcheck disable=SC2086
strokelesion synthesize $material --lesion_free 1 --synthetic_scans 20 --output_dir runs/qc/scans/lesion_free
for cohort in $conditions shifted lesion_free; do
  strokelesion evaluate --weights pretrained --scored all \
    --allow_empty true --dataset_dir "runs/qc/scans/$cohort" --run_dir "runs/qc/scored/$cohort"
done
strokelesion segment "$3/*_T1w.nii.gz" runs/qc/masks
python tests/benchmarks/judge_weights.py runs/qc/scored --lesion_free runs/qc/masks
