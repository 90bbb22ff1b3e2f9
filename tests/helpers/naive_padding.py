"""Parcels padded to common columns, as slow loops written from the definition."""


def naive_template(lists_of, z_of, n_rois):
    """Per parcel {slice: columns} of the first recording with the most voxels."""
    out = []
    for k in range(n_rois):
        best = max(range(len(lists_of)), key=lambda i: (len(lists_of[i][k]), -i))
        slices = [z_of[best][v] for v in lists_of[best][k]]
        out.append({z: slices.count(z) for z in sorted(set(slices))})
    return out


def naive_row(scan, lists, z, goal):
    """One scan in the common columns, voxel by voxel."""
    everything = [scan[v] for voxels in lists for v in voxels]
    row = []
    for voxels, columns in zip(lists, goal, strict=True):
        spare = sum(columns.values()) - len(voxels)
        part, end, before = [], 0, None
        for k in sorted({*columns, *(z[v] for v in voxels)}):
            mine = [scan[v] for v in voxels if z[v] == k]
            part += mine
            if mine:
                before = sum(mine) / len(mine)
            end += columns.get(k, 0)
            mean = before
            if mean is None:
                mean = sum(scan[v] for v in voxels) / len(voxels) if voxels else sum(everything) / len(everything)
            while len(part) < end and spare > 0:
                part.append(mean)
                spare -= 1
        row += part[: sum(columns.values())]
    return row
