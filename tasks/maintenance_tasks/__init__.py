"""Preventive maintenance (HerbisVeritas "Maintenance Préventive"): a run of tasks in order, and its report."""
