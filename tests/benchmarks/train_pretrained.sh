#!/bin/bash
# Train the pretrained models: the last six steps of the lesion model, and the model of the brain's surface.
#
#     tests/benchmarks/train_pretrained.sh HEADS MASKS
#
# The second step of the lesion model was stopped after 27 epochs. In its fourth and sixth, the learning rate followed half a cosine
# over seven and eight minutes on an H200 instead of over epochs. Earlier versions made its first 142,000 slices.
set -eu
material="--heads $1 --masks $2"

# Train one step in runs/NAME from the last.pt of the step before: train NAME OPTIONS...
train() {
  # shellcheck disable=SC2086
  strokelesion train $common --run_dir "runs/$1" ${previous:+--init "$previous"} "${@:2}"
  previous="runs/$1/last.pt"
}

common="--bundle resunet_synthetic $material" previous=""
train lesions1 --spacing_mm 2 --planes axial --batch_size 16 --evenness 0.5 --renewed_scans 0 --epochs 9 --seed 21
train lesions2 --spacing_mm 1 --planes axial --batch_size 64 --learning_rate 0.0015 --synthetic_scans 160 --renewed_scans 5 \
  --epochs 51 --seed 101 --num_workers 14
train lesions3 --planes axial --learning_rate 0.0005 --synthetic_scans 160 --renewed_scans 0 --epochs 3 --seed 303 --num_workers 2
train lesions4 --planes axial --batch_size 128 --learning_rate 0.002 --evenness 0.85 --synthetic_scans 192 --renewed_scans 16 \
  --epochs 60 --seed 404 --num_workers 10
train lesions5 --planes axial,coronal --evenness 0.85 --synthetic_scans 128 --renewed_scans 20 --epochs 9 --seed 505 \
  --num_workers 2 --validation_scans 8 --val_interval 9
train lesions6 --batch_size 128 --learning_rate 0.0015 --evenness 0.85 --synthetic_scans 128 --renewed_scans 16 \
  --lesion_free 0.2 --epochs 70 --seed 606 --num_workers 9

common="--bundle brain $material --spacing_mm 1 --any_contrast 0.2" previous=""
train surface1 --seed 808 --planes axial,coronal,sagittal --batch_size 64 --learning_rate 0.002 --synthetic_scans 48 \
  --renewed_scans 3 --epochs 103 --num_workers 5
train surface2 --seed 909 --planes axial,coronal --synthetic_scans 110 --epochs 4 --num_workers 2 --validation_scans 3
train surface3 --seed 909 --planes axial,coronal --synthetic_scans 110 --epochs 3 --num_workers 2 --validation_scans 3 --neighbors 2
