"""Where the funnel's dear stages are computed: in this process, in a pool of processes, or on a Ray cluster."""
