"""Process data sets: read folders, write checkpoints, masks, tables and pages.

The rooms in the order of their imports: each imports only from those above it. `ROOMS` in `tests/test_layers.py` says exactly
which may import which:

    runtime       errors, files and derived files, pages, processes, locks
    pictures.py   one scan as a picture, charts of volumes
    cohorts       layouts of data sets, records of scans, splits
    models        model files: description, weights, application
    options       all options and their checks; transfer of options and models to the running bundle
    training      slice store, sampler, checkpoints, curves
    finding       which files of a folder are scans
    lesions       numbers of the lesions of one segmented scan
    derivatives   everything that is written about scans: images, tables, pages
    inference     segmenting new scans
    review        results in the browser: accept, correct, reject; corrected masks
    evaluation    measures, scoring, decision rules, release, comparison
    report        experiments, runs, figures, the page
    synthesis     heads, lesion masks and the cohorts made of them; the phantom
    doctor        what is wrong with a data set
    console       the program `strokelesion`, the BIDS App and the demonstration

A data set to train on goes cohorts -> training -> models. A new scan goes finding -> inference -> lesions -> derivatives;
`preprocessing` and `postprocessing` of `bundles/resunet.json` are the steps before and after the network. A scan with a known
lesion goes inference -> evaluation -> report.
"""
